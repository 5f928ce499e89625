// What the machine itself can do, which bounds everything else: float32 multiply-adds from
// registers, and bytes read from memory.
//
//   machine_bench --threads=1,2
//
// Counters: FLOP/s; bytes/s.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"

#if defined(__x86_64__)
#define IN_REGISTER(x) asm volatile("" : "+v"(x))
#elif defined(__aarch64__)
#define IN_REGISTER(x) asm volatile("" : "+w"(x))
#else
#define IN_REGISTER(x) asm volatile("" : "+m"(x))
#endif

namespace dropgemm::bench {
namespace {

struct Case {
  std::string what;
  std::int64_t threads = 1;

  [[nodiscard]] std::string name() const { return what + "/threads:" + text(threads); }
};

constexpr int kSums = 12;  // independent, and with the factor as many as AVX2 has registers for
constexpr std::int64_t kRounds = 1 << 18;
constexpr std::int64_t kWords = std::int64_t{1} << 25;  // 256 MB: beyond any cache

struct Work {
  void (*multiply_add)();
  int lanes;
};

template <int kLanes>
inline __attribute__((always_inline)) void multiply_add() {
  using Vector __attribute__((vector_size(kLanes * sizeof(float)))) = float;
  Vector sums[kSums], factor = Vector{} + 0.5F;
  for (Vector& sum : sums) sum = factor;
  for (std::int64_t round = 0; round < kRounds; ++round) {
    IN_REGISTER(factor);  // nobody knows what it holds now
    for (Vector& sum : sums) sum = sum * factor + factor;
  }
  for (Vector& sum : sums) IN_REGISTER(sum);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void multiply_add_avx512() { multiply_add<16>(); }
__attribute__((target("avx2,fma"))) void multiply_add_avx2() { multiply_add<8>(); }
#endif
void multiply_add_plain() { multiply_add<4>(); }

// The widest vectors that this processor has.
Work widest() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {multiply_add_avx512, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {multiply_add_avx2, 8};
#endif
  return {multiply_add_plain, 4};
}

void run_multiply_add(benchmark::State& state, const Case& c) {
  const Work work = widest();
  const int threads = static_cast<int>(c.threads);
  for (auto _ : state) {
#pragma omp parallel num_threads(threads)
    work.multiply_add();
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * kSums * kRounds * work.lanes * static_cast<double>(threads),
                         benchmark::Counter::kIsIterationInvariantRate);
}

void run_read(benchmark::State& state, const Case& c) {
  const std::vector<std::uint64_t> words(kWords, 1);
  const int threads = static_cast<int>(c.threads);
  for (auto _ : state) {
    std::uint64_t sum = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : sum) schedule(static)
    for (std::int64_t i = 0; i < kWords; ++i) sum += words[i];
    benchmark::DoNotOptimize(sum);
  }
  state.counters["bytes/s"] = benchmark::Counter(static_cast<double>(kWords * sizeof(words[0])),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void run(benchmark::State& state, const Case& c) {
  c.what == "read" ? run_read(state, c) : run_multiply_add(state, c);
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;
  Axes axes("What the machine can do: multiply-adds from registers, bytes from memory.", argc,
            argv);
  const std::vector<std::string> both = {"multiply_add", "read"};
  std::vector<Case> cases(1);
  cross(&cases, &Case::what, axes.words("what", both, both));
  cross(&cases, &Case::threads, axes.threads({1, 2}, 1));
  if (const auto status = axes.finish()) return *status;
  return run_all(cases, run);
}
