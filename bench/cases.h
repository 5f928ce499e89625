// From axes to benchmarks. A Case is a struct of a program's own: one member an axis, and name(),
// which says what tells it from the other cases.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dropgemm/status.h"

namespace dropgemm::bench {

// Every case so far with every value of one more axis.
template <class Case, class T>
void cross(std::vector<Case>* cases, T Case::* axis, const std::vector<T>& values) {
  std::vector<Case> crossed;
  for (const Case& known : *cases) {
    for (const T& value : values) {
      crossed.push_back(known);
      crossed.back().*axis = value;
    }
  }
  *cases = std::move(crossed);
}

enum class Clock { kHost, kOwn };  // kOwn: `run` sets the time of each iteration

// Runs every case once: those that differ only in axes that they do not look at share a name.
// Returns the exit status: 1 where a case failed, or a filter left none.
template <class Case>
int run_all(const std::vector<Case>& cases, void (*run)(benchmark::State&, const Case&),
            Clock clock = Clock::kHost) {
  std::set<std::string> names;
  bool failed = false;
  for (const Case& each : cases) {
    if (!names.insert(each.name()).second) continue;
    const auto run_if_it_fits = [run, each, &failed](benchmark::State& state) {
      try {
        run(state, each);
      } catch (const std::bad_alloc&) {
        state.SkipWithError("operands: expected to fit into memory");
      }
      failed |= state.error_occurred();
    };
    auto* const made = benchmark::RegisterBenchmark(each.name().c_str(), run_if_it_fits);
    made->Unit(benchmark::kMicrosecond);
    clock == Clock::kHost ? made->UseRealTime() : made->UseManualTime();
  }
  const std::size_t ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return failed || ran == 0 ? 1 : 0;
}

// The timed loop; the first failure ends the benchmark and is its message.
template <class Call>
void time_calls(benchmark::State& state, Status status, const Call& call) {
  for (auto _ : state) {
    if (status.ok()) status = call();
    benchmark::ClobberMemory();
  }
  if (!status.ok()) state.SkipWithError(status.message().c_str());
}

}  // namespace dropgemm::bench
