#!/bin/sh
# Compares the Go benchmarks of the hot paths with those of another commit, and fails
# where one has become slower, or allocates more, by more than a limit and beyond the
# noise. Base and head take turns, so that both see the same machine.
# Usage: bench-check.sh BASE [COUNT [TIME [LIMIT]]]
set -eu

base=${1:?usage: bench-check.sh BASE [COUNT [TIME [LIMIT]]]}
count=${2:-8}
time=${3:-100ms}
limit=${4:-10%}

# A package and its benchmarks in each line: the fingerprint, a hit in the plan cache, the
# hash of a key and its shard, framing and relay, the merge of sorted rows.
hot_paths='planner/sqltext ^BenchmarkNormalize$
planner ^BenchmarkPlanHit$
shardmap ^(BenchmarkHash|BenchmarkShardOf)$
wire ^BenchmarkConn
gateway/exec ^BenchmarkMerge$'

go=${GO:-go}
root=$(git rev-parse --show-toplevel)
commit=$(git -C "$root" rev-parse --verify --quiet "$base^{commit}") || {
	echo "there is no commit $base: give one as BASE, such as BASE=main~1" >&2
	exit 2
}
work=$(mktemp -d)
finish() {
	git -C "$root" worktree remove --force "$work/tree" 2>/dev/null || true
	rm -rf "$work"
	git -C "$root" worktree prune
}
trap finish EXIT
trap 'exit 130' INT TERM
git -C "$root" worktree add --quiet --detach "$work/tree" "$commit"

# build TREE NAME: a test binary for each package; what does not build has no benchmarks.
build() {
	echo "$hot_paths" | while read -r package _; do
		[ -d "$1/$package" ] || continue
		(cd "$1" && "$go" test -c -o "$work/$2-$(echo "$package" | tr / -).test" "./$package") || echo "$2: $package does not build" >&2
	done
}
echo "building at $(git -C "$root" rev-parse --short "$commit") and here"
build "$work/tree" base
build "$root" head

# run TREE NAME: each benchmark once.
run() {
	echo "$hot_paths" | while read -r package benchmarks; do
		binary="$work/$2-$(echo "$package" | tr / -).test"
		[ -x "$binary" ] || continue
		(cd "$1/$package" && "$binary" -test.run '^$' -test.bench "$benchmarks" -test.benchtime "$time" -test.benchmem </dev/null) >>"$work/$2.txt"
	done
}
i=0
while [ "$i" -lt "$count" ]; do
	i=$((i + 1))
	echo "round $i of $count" >&2
	if [ $((i % 2)) = 1 ]; then
		run "$work/tree" base
		run "$root" head
	else
		run "$root" head
		run "$work/tree" base
	fi
done
cd "$root"
"$go" run ./bench hot-paths "$work/base.txt" "$work/head.txt" --alpha 0.001 --fail-above "$limit"
