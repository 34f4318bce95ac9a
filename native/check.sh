#!/usr/bin/env bash
# Check the C: sanitizers, a fuzzer, and golden cuts on x86-64 and, under qemu-user, on aarch64 with NEON.
# Usage: native/check.sh [seconds to fuzz]
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
case $PYTHON in /*) ;; *) PYTHON="../$PYTHON" ;; esac
seconds=${1:-20}
out=build
mkdir -p "$out"
sources="mincdc.c fastcdc.c zeros.c hash.c segment.c places.c"
flags="-std=gnu11 -O2 -g -Wall -Wextra -Werror -fno-omit-frame-pointer"

echo "- AddressSanitizer and UndefinedBehaviorSanitizer"
gcc $flags -fsanitize=address,undefined -fno-sanitize-recover=all $sources check.c -o "$out/check-san"
"$out/check-san" compare

echo "- libFuzzer for $seconds s"
clang $flags -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $sources fuzz.c -o "$out/fuzz"
(cd "$out" && ./fuzz -max_total_time="$seconds" -max_len=65536 -timeout=20 -verbosity=0 -print_final_stats=1 2>&1 | tail -n 4)

echo "- golden cuts, this machine"
gcc $flags $sources check.c -o "$out/check"
"$PYTHON" ../tests/golden/chunker_vectors.py inputs >"$out/inputs"
"$out/check" golden <"$out/inputs" | "$PYTHON" ../tests/golden/chunker_vectors.py compare

hashes='import sys, blake3
data = bytes(number % 251 for number in range(110_000))
lines = [line.split() for line in sys.stdin]
wrong = [size for size, found in lines if blake3.blake3(data[:int(size)]).hexdigest() != found]
sys.exit(f"hashes differ for {wrong[:9]}, {len(lines)} compared") if wrong or len(lines) < 4000 else print(len(lines), "hashes equal")'
echo "- hashes, this machine and aarch64"
"$out/check" hash | "$PYTHON" -c "$hashes"

echo "- golden cuts, aarch64 with NEON under qemu"
aarch64-linux-gnu-gcc $flags -static $sources check.c -o "$out/check-aarch64"
qemu-aarch64 "$out/check-aarch64" golden <"$out/inputs" | "$PYTHON" ../tests/golden/chunker_vectors.py compare --need-neon
qemu-aarch64 "$out/check-aarch64" hash | "$PYTHON" -c "$hashes"
qemu-aarch64 "$out/check-aarch64" compare
