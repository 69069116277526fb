"""Colors and fonts of the page: fonts of the system, so that none is loaded, and contrasts that everyone can read."""

from __future__ import annotations

import gradio as gr

__all__ = ["CSS", "HEAD", "build_theme"]

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
HEAD = """
<meta name="description" content="Predict, compare, and look at runs and datasets on this machine.">
<script>
new MutationObserver(() => {
  document.querySelectorAll(".thumbnail-item[aria-label], .upload-container[aria-label]").forEach((item) => {
    if (item.innerText.trim()) item.removeAttribute("aria-label");
  });
  document.querySelectorAll("div.empty[aria-label]").forEach((item) => { item.role = "img"; });
}).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ["aria-label"]});
</script>
"""
"""The script names buttons by their visible texts, for those who say or hear the names; placeholders become images."""

CSS = """
.gradio-container { width: 100%; max-width: 1500px !important; margin: 0 auto !important; }
.dv-header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25em 1em; }
.dv-header h1 { font-size: 1.6rem; font-weight: 700; letter-spacing: -.02em; margin: 0; }
.dv-header p { margin: 0; color: var(--body-text-color-subdued); }
label.float { position: static; width: fit-content; }  /* above the image, in place of over it */
.block:has(> label.float) { display: flex; flex-flow: column nowrap; }
.block:has(> label.float) > .gallery-container { flex: 1; min-height: 0; }
.gallery-container > .grid-wrap { height: 100% !important; }
.dv-natural .grid-wrap, .dv-wide .grid-wrap { max-height: none; min-height: 0; }
#predict-gallery .grid-wrap { max-height: 190px; min-height: 0; }
.dv-image .image-frame img { max-height: 640px; object-fit: contain; }
.dv-natural .thumbnail-lg { aspect-ratio: auto; height: auto; }
.dv-natural .thumbnail-lg > img { height: auto; }
.dv-natural .caption-label { position: static; border: none; background: none; }
.dv-wide .thumbnail-lg { aspect-ratio: 16 / 10; }
.caption-label { font-size: var(--text-sm) !important; padding: 1px 6px !important; max-width: 96%; }
#predict-files button.center, #compare-files button.center { border: 2px dashed var(--input-border-color);
  border-radius: var(--radius-md); }
#predict-video-files .label-clear-button { display: none; }  /* would only remove the link */
.dark button[role="tab"].selected { color: var(--primary-300); }
.dv-swatch { display: inline-block; width: 1em; height: 1em; border-radius: 3px; margin-right: .5em;
  vertical-align: -0.15em; border: 1px solid var(--border-color-primary); }
.dv-table { border-collapse: collapse; width: 100%; font-size: var(--text-md); }
.dv-table caption { text-align: left; font-weight: 600; padding: .3em 0; }
.dv-table th, .dv-table td { text-align: left; padding: .3em .8em .3em 0; vertical-align: top;
  border-bottom: 1px solid var(--border-color-primary); }
.dv-table td:has(.dv-swatch) { white-space: nowrap; }
.dv-table th { font-weight: 500; color: var(--body-text-color-subdued); }
#predict-file { display: none; }
.dv-legend { margin: .5em 0; }
.dv-legend figcaption { font-weight: 600; padding-bottom: .4em; }
.dv-wheel { display: flex; align-items: center; gap: 1em; }
.dv-ramp { height: 1.2em; border-radius: 4px; }
.dv-ticks { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.dv-table, .dv-table thead, .dv-table tbody, .dv-table tr { border: none !important; }
.dv-table td, .dv-table th { border-width: 0 0 1px !important; }
.dv-scroll { overflow-x: auto; }
.icon-button:has(input[type="file"]) { display: none; } /* a button in a button, which no screen reader can use */
.dv-note { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
"""


def build_theme() -> gr.themes.Base:
    """The theme."""
    theme = gr.themes.Soft(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=list(FONTS),
        font_mono=list(MONOSPACE),
    )
    colors = {
        "block_border_width": "1px",
        "block_label_background_fill": "none",
        "block_label_border_width": "0px",
        "block_label_margin": "0px",
        "block_label_padding": "*spacing_md *spacing_lg",
        "block_label_shadow": "none",
        "block_label_text_color": "*body_text_color",
        "block_title_background_fill": "none",
        "block_title_text_color": "*body_text_color",
        "block_title_padding": "0",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "button_primary_text_color": "white",
        "button_secondary_border_color": "*input_border_color",
        "button_secondary_shadow": "none",
        "checkbox_border_width": "1px",
        "checkbox_label_background_fill_selected": "*primary_600",
        "checkbox_label_text_color_selected": "white",
        "input_border_width": "1px",
        "input_shadow": "none",
    }
    both = {f"{name}{mode}": value for name, value in colors.items() for mode in _list_modes(theme, name)}
    subdued = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    info = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}
    lines = {
        "block_border_color": "*neutral_200",
        "block_border_color_dark": "*neutral_700",
        "button_border_width": "1px",
        "button_large_padding": "8px 16px",
        "button_secondary_background_fill_hover_dark": "*neutral_700",
        "button_large_text_size": "*text_md",
        "checkbox_border_color": "*neutral_500",
        "checkbox_border_color_dark": "*neutral_400",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "*neutral_600",
    }
    links = {"link_text_color": "*primary_700", "link_text_color_dark": "*primary_300"}
    return theme.set(**both, **subdued, **info, **links, **lines)


def _list_modes(theme: gr.themes.Base, name: str) -> list[str]:
    """Endings of a variable: of light mode, and of dark mode where it has a value of its own."""
    return ["", "_dark"] if hasattr(theme, f"{name}_dark") else [""]
