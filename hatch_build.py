"""Build hook of the package: compiles the native GRU kernel where there is a C compiler.

Without one the package is built all the same, without the kernel, and says so: `auto` then takes the `torch`
backend. How to compile is in src/gatelab/core/backends/native/compile.py, which is loaded by its path, because the
package cannot be imported while it is being built.
"""

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeKernel(BuildHookInterface):
    """Adds the kernel's shared objects to the wheel, which then is tagged for this platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in place (an editable install runs from there), and take the objects into the wheel."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root, "src", "gatelab", "core", "backends", "native")
        found = importlib.util.spec_from_file_location("gatelab_compile", folder / "compile.py")
        assert found is not None
        assert found.loader is not None
        builder = importlib.util.module_from_spec(found)
        found.loader.exec_module(builder)
        try:
            objects = builder.compile_all()
        except (builder.CompileError, OSError) as error:
            self.app.display_warning(f"The native GRU kernel is not built; the torch backend serves. {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"
        build_data["artifacts"] += [str(path.relative_to(self.root)) for path in objects]


def _platform() -> str:
    """This platform's wheel tag; any Python 3 will do, because the kernel knows nothing of Python."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
