"""CPU seconds from a command to its answer: python tests/benchmarks/bench_cli.py"""

import resource
import statistics
import subprocess
import sys

TIMES = 20


def spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(*arguments: str) -> list[float]:
    found = []
    for _ in range(TIMES):
        start = spent()
        subprocess.run([sys.executable, "-m", "decur", *arguments], capture_output=True, check=True)
        found.append(spent() - start)
    return found


if __name__ == "__main__":
    for arguments in (("--help",), ("pretrain", "--help"), ("schema",)):
        found = seconds(*arguments)
        median, most = statistics.median(found), max(found)
        print(f"| `decur {' '.join(arguments)}` | {median:.2f} | {most:.2f} |")
