"""The table that a proof prints while it runs, and the count that ends it."""

import contextlib
import sys
import time
import traceback

import tool

SHOWN = 6


class Report:
    """Counts cases; a case fails when its list of faults is not empty, or when it raises."""

    def __init__(self) -> None:
        self._passed = 0
        self._failed = 0
        self._started = time.monotonic()

    @contextlib.contextmanager
    def case(self, name: str):
        """One line of the table: append what is wrong to the list."""
        faults: list[str] = []
        try:
            yield faults
        except tool.ToolError as error:
            faults.append(f"qwen-fp8: {error}")
        except Exception:
            faults.append(traceback.format_exc().rstrip())
        self._passed += not faults
        self._failed += bool(faults)
        print(f"  {'FAILED' if faults else 'ok':6} {name.rstrip()}")
        for fault in faults[:SHOWN]:
            print("         " + fault.replace("\n", "\n         "))
        if len(faults) > SHOWN:
            print(f"         … and {len(faults) - SHOWN} more")
        sys.stdout.flush()

    def close(self) -> int:
        """Prints the count; the exit code."""
        print(f"  {time.monotonic() - self._started:.1f} s")
        print(f"{self._passed} passed, {self._failed} failed")
        return 1 if self._failed or not self._passed else 0
