// A step of stochastic gradient descent, a cache line of w at a time. Bound by memory, so vectors
// of the x86-64 baseline do.
//
// Weights go around the cache where a team works: its threads have all read them for the products,
// and a line that is in the caches of several cores is slow to take back for writing. On two cores
// without a common cache the update of an MLP of 5.8 million weights, after a backward pass at
// batch 128, took 1.5 ms so, and 4.5 ms with ordinary stores (Zen 4, 2026-11-21).
#include "cpu/sgd.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/threads.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace dropgemm::cpu {
namespace {

constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kLinesPerThread = 512;

template <class T>
constexpr std::int64_t kLine = kLineBytes / static_cast<std::int64_t>(sizeof(T));

template <class T>
struct Rule {
  explicit Rule(const SgdArgs& args)
      : lr(static_cast<T>(args.lr)), momentum(static_cast<T>(args.momentum)),
        undampened(static_cast<T>(1.0 - args.dampening)),
        weight_decay(static_cast<T>(args.weight_decay)), sign(args.maximize ? T(-1) : T(1)),
        decays(args.weight_decay != 0.0), moves(args.v != nullptr), first(args.first),
        nesterov(args.nesterov) {}
  T lr, momentum, undampened, weight_decay, sign;
  bool decays, moves, first, nesterov;
};

// Which options of a rule a loop looks at; the common ones leave it none.
enum class Options { kNone, kMomentum, kAny };

template <class T>
Options options_of(const Rule<T>& rule) {
  if (rule.decays || rule.first || rule.nesterov) return Options::kAny;
  return rule.moves ? Options::kMomentum : Options::kNone;
}

// The new w. X is T or a vector of T; v is used where the rule has momentum.
template <Options kOptions, class X, class T>
X stepped(const Rule<T>& rule, X w, X g, X* v) {
  constexpr bool kAny = kOptions == Options::kAny;
  X slope = rule.sign * g;
  if (kAny && rule.decays) slope += rule.weight_decay * w;
  if (kAny ? rule.moves : kOptions == Options::kMomentum) {
    *v = kAny && rule.first ? slope : rule.momentum * *v + rule.undampened * slope;
    slope = kAny && rule.nesterov ? slope + rule.momentum * *v : *v;
  }
  return w - rule.lr * slope;
}

template <class T>
void step_element(const Rule<T>& rule, T* w, const T* g, T* v) {
  *w = stepped<Options::kAny>(rule, *w, *g, v);
}

template <Options kOptions, class T>
void step_line(const Rule<T>& rule, T* w, const T* g, T* v, [[maybe_unused]] bool around) {
  typedef T Vector __attribute__((vector_size(16)));
  constexpr std::int64_t kLanes = 16 / static_cast<std::int64_t>(sizeof(T));
  const bool moves = kOptions == Options::kAny ? rule.moves : kOptions == Options::kMomentum;
  Vector out[kLine<T> / kLanes];
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < kLine<T> / kLanes; ++i) {
    Vector weights, gradient, velocity{};
    std::memcpy(&weights, w + i * kLanes, sizeof weights);
    std::memcpy(&gradient, g + i * kLanes, sizeof gradient);
    if (moves) std::memcpy(&velocity, v + i * kLanes, sizeof velocity);
    out[i] = stepped<kOptions>(rule, weights, gradient, &velocity);
    if (moves) std::memcpy(v + i * kLanes, &velocity, sizeof velocity);
  }
#if defined(__SSE2__)
  if (around) {
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < kLine<T> / kLanes; ++i) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(w + i * kLanes),
                       reinterpret_cast<__m128i>(out[i]));
    }
    return;
  }
#endif
  std::memcpy(w, out, sizeof out);
}

// Whether a line holds nothing but zeros, of either sign.
template <class T>
bool all_zero(const T* line) {
  constexpr std::uint64_t kMagnitude = sizeof(T) == 8 ? 0x7FFFFFFFFFFFFFFFU : 0x7FFFFFFF7FFFFFFFU;
  std::uint64_t words[kLineBytes / 8], any = 0;
  std::memcpy(words, line, sizeof words);
  for (const std::uint64_t word : words) any |= word;
  return (any & kMagnitude) == 0;
}

// Elements before the first whole line of w.
template <class T>
std::int64_t before_line(const T* w, std::int64_t size) {
  const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(w) % kLineBytes);
  return std::min(size, (kLineBytes - past) % kLineBytes / static_cast<std::int64_t>(sizeof(T)));
}

// Elements [begin, end), whole lines of w.
template <Options kOptions, class T>
void step_lines(const Rule<T>& shared, T* w, const T* g, T* v, std::int64_t begin, std::int64_t end,
                bool around) {
  const Rule<T> rule = shared;  // which no store can be taken to change
  // An infinite factor makes NaN of 0.
  const bool skips_zeros = kOptions == Options::kNone && rule.lr * T(0) == T(0);
  for (std::int64_t i = begin; i < end; i += kLine<T>) {
    if (skips_zeros && all_zero(g + i)) continue;
    step_line<kOptions>(rule, w + i, g + i, v + i, around);
  }
  // Stores around the cache are not ordered by what the caller does next.
  if (around) std::atomic_thread_fence(std::memory_order_seq_cst);
}

template <class T>
void step(const Context& ctx, const SgdArgs& args) {
  const Rule<T> rule(args);
  T* w = static_cast<T*>(args.w);
  const T* g = static_cast<const T*>(args.g);
  T* v = args.v != nullptr ? static_cast<T*>(args.v) : w;  // unread then
  const std::int64_t first = before_line(w, args.size);
  const std::int64_t lines = (args.size - first) / kLine<T>, last = first + lines * kLine<T>;
  const bool around = thread_count(ctx.num_threads) > 1;
  const Options options = options_of(rule);
  const auto run = options == Options::kNone       ? step_lines<Options::kNone, T>
                   : options == Options::kMomentum ? step_lines<Options::kMomentum, T>
                                                   : step_lines<Options::kAny, T>;
  for (std::int64_t i = 0; i < first; ++i) step_element(rule, w + i, g + i, v + i);
  split(ctx.num_threads, lines, lines / kLinesPerThread, [&](std::int64_t begin, std::int64_t end) {
    run(rule, w, g, v, first + begin * kLine<T>, first + end * kLine<T>, around);
  });
  for (std::int64_t i = last; i < args.size; ++i) step_element(rule, w + i, g + i, v + i);
}

}  // namespace

std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText /*error*/) {
  if (args->dtype == DType::kFloat64) {
    step<double>(*ctx, *args);
  } else {
    step<float>(*ctx, *args);
  }
  return 0;
}

}  // namespace dropgemm::cpu
