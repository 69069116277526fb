"""Copies the run configs into the package when it is built; everything else is in setup.cfg."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Ships `configs/` as package data: it lies beside the package in the repository, and inside it when installed."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", Path(self.build_lib) / "densevision" / "configs", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
