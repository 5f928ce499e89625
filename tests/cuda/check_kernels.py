"""What the compiler made of the CUDA kernels: python3 check_kernels.py CUOBJDUMP LIBRARY.

Checks that Hopper's products multiply by wgmma (HGMMA) and are loaded, stored and added by the
tensor memory accelerator (UTMALDG, UTMASTG, UTMAREDG), that those of older chips multiply by
mma.sync (HMMA) out of asynchronous copies (LDGSTS), that all of them write D 16 bytes at a time
(STG.E.128), that none of them has a stack or spills registers, and that the library is not linked
to the driver's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

WIDE_STORE = "STG.E.128"
HOPPER = {"HGMMA", "UTMALDG", "UTMASTG", "UTMAREDG", WIDE_STORE}
AMPERE = {"HMMA", "LDGSTS", WIDE_STORE}
SPILLS = {"LDL", "STL"}  # loads and stores of a stack


@dataclass
class Kernel:
    name: str = ""
    registers: int = 0
    stack: int = 0
    instructions: set[str] = field(default_factory=set)  # "UTMALDG", "UTMALDG.2D.MULTICAST", ...

    @property
    def expected(self) -> set[str]:
        if "gemm_sm90" in self.name:
            shared = "Sm90ShapeE2" in self.name  # a pair of blocks that share A
            return HOPPER | ({"UTMALDG.2D.MULTICAST"} if shared else set())
        return AMPERE if "Sm80Kernel" in self.name else set()

    def faults(self) -> list[str]:
        if not self.expected:
            return []
        faults = [f"no {name}" for name in sorted(self.expected - self.instructions)]
        faults += [f"has {name}" for name in sorted(SPILLS & self.instructions)]
        if self.stack:
            faults.append(f"has a stack of {self.stack} bytes")
        return faults


def read_resources(text: str, kernels: dict[str, Kernel]) -> None:
    """Reads `cuobjdump -res-usage`."""
    pattern = r"Function (\S+):\s+REG:(\d+) STACK:(\d+)"
    for name, registers, stack in re.findall(pattern, text):
        kernels[name] = Kernel(name, int(registers), int(stack))


def read_instructions(text: str, kernels: dict[str, Kernel]) -> None:
    """Reads `cuobjdump -sass`: "        /*0a10*/     @P0 HGMMA.64x128x16.F32.BF16 R24, ..."."""
    opcode = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)")
    kernel = Kernel()
    for line in text.splitlines():
        if "Function : " in line:
            name = line.split("Function : ")[1].strip()
            kernel = kernels.setdefault(name, Kernel(name))
        elif found := opcode.match(line):
            instruction = found.group(1)
            kernel.instructions |= {instruction, instruction.split(".")[0]}


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> int:
    cuobjdump, library = sys.argv[1:]
    nvdisasm = Path(cuobjdump).parent  # which cuobjdump looks for
    os.environ["PATH"] = f"{nvdisasm}{os.pathsep}{os.environ['PATH']}"
    kernels: dict[str, Kernel] = {}
    read_resources(run(cuobjdump, "-res-usage", library), kernels)
    read_instructions(run(cuobjdump, "-sass", library), kernels)
    products = [kernel for kernel in kernels.values() if kernel.expected]
    hopper = sum("gemm_sm90" in kernel.name for kernel in products)
    print(f"{len(kernels)} kernels, {len(products)} of products, {hopper} of Hopper's")
    faults = [f"{kernel.name}: {fault}" for kernel in products for fault in kernel.faults()]
    if not hopper:
        faults.append("there are no kernels for sm_90a")
    if (readelf := shutil.which("readelf")) and "libcuda.so" in run(readelf, "-d", library):
        faults.append(f"{library} is linked to libcuda.so")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
