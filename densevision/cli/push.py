"""densevision push"""

from __future__ import annotations

from typing import Any

import click

from densevision.escaping import escape_control

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "push",
        help="Publish the best weights of RUN (a run folder or a weights file) with a model card and an example image. "
        "TARGET is hf://OWNER/NAME[@BRANCH] on the Hugging Face Hub, or a folder.",
    )
    @click.argument("run", type=click.Path(exists=True))
    @click.argument("target")
    @click.option(
        "--image",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False),
        help="Show a prediction on this image; flow needs two. Images of the dataset are not published otherwise.",
    )
    @click.option("--license", metavar="ID", help="License of the weights as the Hub writes it, e.g. apache-2.0.")
    @click.option("--private", is_flag=True, help="Make a new repository private.")
    def push(run: str, target: str, image: tuple[str, ...], **options: Any) -> None:
        from densevision.cli.printing import configure_logging
        from densevision.publishing import push as publish

        configure_logging(quiet=False)
        source = None if not image else image[0] if len(image) == 1 else list(image)
        click.echo(escape_control(publish(run, target, image=source, **options)))

    return push
