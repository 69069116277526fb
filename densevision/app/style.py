"""Colors and fonts of the page: fonts of the system, so that none is loaded, and contrasts that everyone can read."""

from __future__ import annotations

import gradio as gr

__all__ = ["CSS", "HEAD", "build_theme"]

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
HEAD = """
<meta name="description" content="Predict, compare, and look at runs and datasets on this machine.">
<script>
new MutationObserver(() => document.querySelectorAll(".thumbnail-item[aria-label]").forEach((item) => {
  if (item.innerText.trim()) item.removeAttribute("aria-label");
})).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ["aria-label"]});
</script>
"""
"""The script names images of a gallery by their visible captions, for those who say or hear the names."""

CSS = """
.dv-swatch { display: inline-block; width: 1em; height: 1em; border-radius: 3px; margin-right: .5em;
  vertical-align: -0.15em; border: 1px solid var(--border-color-primary); }
.dv-table { border-collapse: collapse; width: 100%; font-size: var(--text-md); }
.dv-table caption { text-align: left; font-weight: 600; padding: .3em 0; }
.dv-table th, .dv-table td { text-align: left; padding: .3em .8em .3em 0; vertical-align: top;
  border-bottom: 1px solid var(--border-color-primary); }
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
        "block_label_background_fill": "*background_fill_primary",
        "block_label_text_color": "*body_text_color",
        "block_title_background_fill": "none",
        "block_title_text_color": "*body_text_color",
        "block_title_padding": "0",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "button_primary_text_color": "white",
        "checkbox_label_background_fill_selected": "*primary_600",
        "checkbox_label_text_color_selected": "white",
    }
    both = {f"{name}{mode}": value for name, value in colors.items() for mode in _list_modes(theme, name)}
    subdued = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    info = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}
    links = {"link_text_color": "*primary_700", "link_text_color_dark": "*primary_300"}
    return theme.set(**both, **subdued, **info, **links)


def _list_modes(theme: gr.themes.Base, name: str) -> list[str]:
    """Endings of a variable: of light mode, and of dark mode where it has a value of its own."""
    return ["", "_dark"] if hasattr(theme, f"{name}_dark") else [""]
