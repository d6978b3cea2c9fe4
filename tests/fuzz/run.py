#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets, one a core: first what once broke them, then new inputs.

    run.py                     each target for a minute
    run.py --seconds 600 uri   one target, for longer
    run.py --minimise          takes what the runs found into corpus/, as little of it as tells most

    corpus/TARGET/        inputs to begin with: driver-* is what real drivers and servers said
                          (recorded between pymongo or libmongoc and a server), made-* made by hand,
                          the others came of fuzzing these
    regressions/TARGET/   inputs that once broke something; what is found is put there
    TARGET.dict           words that the target's inputs are made of

What it makes goes into $BUILD/fuzz. Ends with a line `N passed, M failed`; the line coverage of wire/
by corpus and regressions counts as one of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = Path(os.environ.get("BUILD") or ROOT / "build").resolve() / "fuzz"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))

INPUT_MOST_BYTES = 4096
INPUT_TIMEOUT_S = 20
CORPUS_MOST_FILES = 60
WIRE_LEAST_PERCENT = 95.0


def nice(*command: object, **options) -> subprocess.CompletedProcess:
    words = ["nice", "-n", "10", *map(str, command)]
    return subprocess.run(words, text=True, errors="replace", **options)


def llvm_tool(name: str) -> Path:
    """The one that came with this clang: their file formats belong together."""
    clang = shutil.which(os.environ.get("CLANG", "clang"))
    if clang is None:
        sys.exit("clang is not installed")
    return Path(clang).resolve().parent / name


def build(kind: str, *flags: str) -> Path:
    directory = OUT / kind
    if not (directory / "build.ninja").exists():
        clang = f"-DCMAKE_C_COMPILER={os.environ.get('CLANG', 'clang')}"
        nice("cmake", "-S", HERE, "-B", directory, "-G", "Ninja", clang, *flags, check=True,
             stdout=subprocess.DEVNULL)  # fmt: skip
    nice("cmake", "--build", directory, check=True, stdout=subprocess.DEVNULL)
    return directory


def files_of(kind: str, target: str) -> list[Path]:
    directory = HERE / kind / target
    return sorted(directory.iterdir()) if directory.is_dir() else []


def what_broke(output: str) -> str:
    """The line that says what happened, of all that is printed."""
    found = re.search(r".*(does not hold|runtime error|Assertion .* failed|BROKEN:).*", output)
    found = found or re.search(r"(ERROR|SUMMARY): .*", output)
    return found.group(0).strip() if found else "it ended without a word"


class Tally:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def passes(self, what: str) -> None:
        self.passed += 1
        print(f"ok    {what}", flush=True)

    def fails(self, what: str) -> None:
        self.failed += 1
        print(f"FAIL  {what}", flush=True)


def run_one(binary: Path, file: Path) -> subprocess.CompletedProcess:
    # What it would write of a crash is the file itself.
    return nice(binary, f"-timeout={INPUT_TIMEOUT_S}", "-exact_artifact_path=/dev/null", file,
                capture_output=True)  # fmt: skip


def replay(binary: Path, target: str, tally: Tally) -> None:
    for file in files_of("regressions", target):
        result = run_one(binary, file)
        if result.returncode == 0:
            tally.passes(f"{target}: {file.name}")
        else:
            tally.fails(f"{target}: {file.name}: {what_broke(result.stderr)}")


def keep(target: str, artifact: Path) -> Path:
    """Makes a regression of it."""
    kind = artifact.name.split("-")[0]
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()[:12]
    kept = HERE / "regressions" / target / f"{kind}-{digest}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifact, kept)
    return kept


def fuzz(binary: Path, target: str, seconds: int, tally: Tally) -> None:
    found = OUT / "found" / target
    artifacts = OUT / "artifacts" / target
    found.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.mkdir(parents=True)
    corpus = HERE / "corpus" / target
    dictionary = HERE / f"{target}.dict"
    result = nice(
        binary, f"-max_total_time={seconds}", f"-max_len={INPUT_MOST_BYTES}",
        f"-timeout={INPUT_TIMEOUT_S}", f"-artifact_prefix={artifacts}/", "-print_final_stats=1",
        *([f"-dict={dictionary}"] if dictionary.exists() else []),
        found, *([corpus] if corpus.is_dir() else []), capture_output=True,
    )  # fmt: skip
    rate = re.search(r"stat::average_exec_per_sec:\s*(\d+)", result.stderr)
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", result.stderr)
    if result.returncode == 0 and rate and count:
        tally.passes(f"{target}: {int(count[1]):,} executions, {int(rate[1]):,} a second")
        return
    (artifacts / "output").write_text(result.stderr)
    tally.fails(f"{target}: {what_broke(result.stderr)} (see {artifacts / 'output'})")
    for artifact in artifacts.glob("*-*"):
        if run_one(binary, artifact).returncode == 0:
            print(f"      {artifact} does it no more: the machine stood still, or state was kept")
        else:
            print(f"      kept as {keep(target, artifact).relative_to(ROOT)}")


def cover(targets: list[str], tally: Tally) -> None:
    """Counts the lines of wire/ that corpora and regressions go through."""
    directory = build("coverage", "-DFUZZ_COVERAGE=ON")
    profiles = OUT / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    for target in targets:
        inputs = [HERE / kind / target for kind in ("corpus", "regressions")]
        environment = {**os.environ, "LLVM_PROFILE_FILE": f"{profiles}/{target}.profraw"}
        nice(
            directory / f"fuzz_{target}", "-runs=0", f"-max_len={1 << 20}",
            *filter(Path.is_dir, inputs), capture_output=True, env=environment, check=True,
        )  # fmt: skip
    merged = profiles / "all"
    nice(llvm_tool("llvm-profdata"), "merge", "-o", merged, *profiles.glob("*.profraw"), check=True)
    first, *others = [directory / f"fuzz_{target}" for target in targets]
    objects = [word for other in others for word in ("-object", other)]
    sources = (ROOT / "wire").glob("*.[ch]")
    report = nice(llvm_tool("llvm-cov"), "export", "-summary-only", f"-instr-profile={merged}",
                  first, *objects, *sources, capture_output=True, check=True)  # fmt: skip
    data = json.loads(report.stdout)["data"][0]
    for file in data["files"]:
        lines = file["summary"]["lines"]
        if lines["covered"] < lines["count"]:
            missed = lines["count"] - lines["covered"]
            print(f"      {Path(file['filename']).name}: {missed} of {lines['count']} lines missed")
    percent = data["totals"]["lines"]["percent"]
    line = f"line coverage of wire/: {percent:.1f} % (at least {WIRE_LEAST_PERCENT:.0f})"
    (tally.passes if percent >= WIRE_LEAST_PERCENT else tally.fails)(line)


def is_named(file: Path) -> bool:
    return "-" in file.name


def features(control: Path) -> tuple[list[Path], list[tuple[set[int], set[int]]]]:
    """What libFuzzer noted of each file when it merged: that it was the first, from small to large,
    to reach it. A feature is an edge and, in its lowest three bits, about how often the edge was
    taken: here are the edges, and the features."""
    lines = control.read_text().splitlines()
    count = int(lines[0])
    files = [Path(line) for line in lines[2 : 2 + count]]
    noted: list[tuple[set[int], set[int]]] = [(set(), set()) for _ in files]
    for line in lines[2 + count :]:
        kind, index, *numbers = line.split()
        if kind == "FT":
            noted[int(index)][0].update(int(number) >> 3 for number in numbers)
            noted[int(index)][1].update(int(number) for number in numbers)
    return files, noted


def choose(files: list[Path], noted: list[tuple[set[int], set[int]]]) -> list[Path]:
    """Those with a name, then those that reach most, the shorter of two that reach as much."""
    chosen = [index for index, file in enumerate(files) if is_named(file)]
    for kind in (0, 1):
        left = set().union(*(sets[kind] for sets in noted))
        for index in chosen:
            left -= noted[index][kind]
        while left and len(chosen) < CORPUS_MOST_FILES:
            best = max(
                range(len(files)),
                key=lambda i: (len(noted[i][kind] & left), -files[i].stat().st_size),
            )
            chosen.append(best)
            left -= noted[best][kind]
    return [files[index] for index in chosen]


def minimise(binary: Path, target: str) -> None:
    corpus = HERE / "corpus" / target
    found = OUT / "found" / target
    control = OUT / "merge" / target / "control"
    shutil.rmtree(control.parent, ignore_errors=True)
    (control.parent / "new").mkdir(parents=True)
    sources = [path for path in (corpus, found) if path.is_dir()]
    # Into an empty directory, so that the control file tells of every file.
    nice(binary, "-merge=1", f"-merge_control_file={control}", f"-max_len={INPUT_MOST_BYTES}",
         control.parent / "new", *sources, capture_output=True, check=True)  # fmt: skip
    chosen = {}
    for file in choose(*features(control)):
        body = file.read_bytes()
        chosen[file.name if is_named(file) else hashlib.sha256(body).hexdigest()[:12]] = body
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for name, body in chosen.items():
        (corpus / name).write_bytes(body)
    print(f"{target}: {len(chosen)} files, {sum(map(len, chosen.values()))} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time (cores)")
    parser.add_argument("--minimise", action="store_true", help="put what was found into corpus/")
    options = parser.parse_args()
    targets = options.targets or TARGETS
    unknown = set(targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    directory = build("targets")
    if options.minimise:
        for target in targets:
            minimise(directory / f"fuzz_{target}", target)
        return 0
    tally = Tally()
    for target in targets:
        replay(directory / f"fuzz_{target}", target, tally)
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [
            pool.submit(fuzz, directory / f"fuzz_{target}", target, options.seconds, tally)
            for target in targets
        ]
    for run in runs:
        run.result()  # what it raised
    if targets == TARGETS:
        cover(targets, tally)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
