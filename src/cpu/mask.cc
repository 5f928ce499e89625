// Mask generation on CPUs: whole words of draws at a time, rows in parallel where a mask is large.
// The bits are those of src/reference/mask.cc, whatever the instruction set and thread count.
#include "cpu/mask.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "cpu/isa.h"
#include "cpu/philox_lanes.h"
#include "cpu/threads.h"
#include "registry.h"

namespace dropgemm::cpu {
namespace {

// Waking the other threads costs some microseconds; so do this many words of draws.
constexpr std::int64_t kWordsPerThread = 512;
// Draws of an exact row that are kept on the stack; longer rows are drawn again for each pass.
constexpr std::int64_t kStackWords = 128;
// Ids of one step of order = kRandom that are kept on the stack.
constexpr std::int64_t kStackIds = 1024;

// --- One instruction set or another --------------------------------------------------------------

struct DrawKernels {
  void (*threshold_words)(const DrawStream&, std::uint32_t, std::int64_t, std::uint32_t,
                          std::uint32_t*);
  void (*draw_words)(const DrawStream&, std::uint32_t, std::int64_t, std::uint32_t*);
};

void threshold_words_generic(const DrawStream& stream, std::uint32_t block, std::int64_t words,
                             std::uint32_t threshold, std::uint32_t* bits) {
  threshold_words_body(stream, block, words, threshold, bits);
}
void draw_words_generic(const DrawStream& stream, std::uint32_t block, std::int64_t words,
                        std::uint32_t* draws) {
  draw_words_body(stream, block, words, draws);
}

#if defined(__x86_64__)
// GCC halves its vectors unless told otherwise; clang refuses the whole list over that word.
#if defined(__clang__)
#define DROPGEMM_TARGET_AVX512 "avx512f,avx512bw,avx512vl,avx512dq"
#else
#define DROPGEMM_TARGET_AVX512 "avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"
#endif
[[gnu::target("avx2")]] void threshold_words_avx2(const DrawStream& stream, std::uint32_t block,
                                                  std::int64_t words, std::uint32_t threshold,
                                                  std::uint32_t* bits) {
  threshold_words_body(stream, block, words, threshold, bits);
}
[[gnu::target("avx2")]] void draw_words_avx2(const DrawStream& stream, std::uint32_t block,
                                             std::int64_t words, std::uint32_t* draws) {
  draw_words_body(stream, block, words, draws);
}
[[gnu::target(DROPGEMM_TARGET_AVX512)]] void threshold_words_avx512(const DrawStream& stream,
                                                                    std::uint32_t block,
                                                                    std::int64_t words,
                                                                    std::uint32_t threshold,
                                                                    std::uint32_t* bits) {
  threshold_words_body(stream, block, words, threshold, bits);
}
[[gnu::target(DROPGEMM_TARGET_AVX512)]] void draw_words_avx512(const DrawStream& stream,
                                                               std::uint32_t block,
                                                               std::int64_t words,
                                                               std::uint32_t* draws) {
  draw_words_body(stream, block, words, draws);
}
#endif

// The kernels of the instruction set that the products use, so that forcing one forces both.
DrawKernels draw_kernels() {
#if defined(__x86_64__)
  if (isa_has("avx512")) return {threshold_words_avx512, draw_words_avx512};
  if (isa_has("avx2")) return {threshold_words_avx2, draw_words_avx2};
#endif
  return {threshold_words_generic, draw_words_generic};
}

// --- Rows of bits --------------------------------------------------------------------------------

// The bits of word `word` of a row of `count` bits that are not padding.
std::uint32_t valid_bits(std::int64_t count, std::int64_t word) {
  const std::int64_t left = count - word * 32;
  return left >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << left) - 1;
}

// Words [begin, end) of a row of independent bits whose draws begin at block `row_block`.
void bernoulli_words(const DrawKernels& kernels, const DrawStream& stream, std::uint64_t threshold,
                     std::uint64_t row_block, std::int64_t count, std::int64_t begin,
                     std::int64_t end, std::uint32_t* row) {
  if (threshold > 0xFFFFFFFFU) {  // p = 1: no draw of 32 bits reaches it
    std::fill(row + begin, row + end, 0U);
    return;
  }
  const std::uint64_t block = row_block + static_cast<std::uint64_t>(begin) * 8;
  kernels.threshold_words(stream, static_cast<std::uint32_t>(block), end - begin,
                          static_cast<std::uint32_t>(threshold), row + begin);
  row[end - 1] &= valid_bits(count, end - 1);
}

// A row's draws, 32 at a time: from the stack where they fit, else drawn anew for every pass.
class RowDraws {
 public:
  RowDraws(const DrawKernels& kernels, const DrawStream& stream, std::int64_t count)
      : kernels_(kernels), stream_(stream), cached_(ceil_div(count, 32) <= kStackWords) {
    if (cached_) kernels_.draw_words(stream_, 0, ceil_div(count, 32), draws_);
  }
  const std::uint32_t* word(std::int64_t index) {
    if (cached_) return draws_ + index * 32;
    kernels_.draw_words(stream_, static_cast<std::uint32_t>(index * 8), 1, draws_);
    return draws_;
  }

 private:
  const DrawKernels& kernels_;
  const DrawStream& stream_;
  bool cached_;
  std::uint32_t draws_[kStackWords * 32];
};

// The draw with `rank` smaller or equal ones before it, byte by byte from the top: each pass
// counts the draws that share the bytes known so far. *before: how many draws are smaller.
std::uint32_t draw_of_rank(RowDraws* draws, std::int64_t count, std::int64_t rank,
                           std::int64_t* before) {
  std::uint32_t prefix = 0;
  *before = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::int64_t histogram[256] = {};
    const std::uint64_t known = std::uint64_t{prefix} >> shift >> 8;
    for (std::int64_t word = 0; word * 32 < count; ++word) {
      const std::uint32_t* const draw = draws->word(word);
      const std::int64_t size = std::min<std::int64_t>(32, count - word * 32);
      for (std::int64_t i = 0; i < size; ++i) {
        if (std::uint64_t{draw[i]} >> shift >> 8 == known) ++histogram[draw[i] >> shift & 255];
      }
    }
    std::uint32_t byte = 0;
    while (*before + histogram[byte] <= rank) *before += histogram[byte++];
    prefix |= byte << shift;
  }
  return prefix;
}

// Calls sink(word, bits) for each word of the row that keeps the `keep` smallest draws.
template <class Sink>
void select_smallest(const DrawKernels& kernels, const DrawStream& stream, std::int64_t count,
                     std::int64_t keep, const Sink& sink) {
  const std::int64_t words = ceil_div(count, 32);
  if (keep <= 0 || keep >= count) {
    for (std::int64_t word = 0; word < words; ++word) {
      sink(word, keep > 0 ? valid_bits(count, word) : 0U);
    }
    return;
  }
  RowDraws draws(kernels, stream, count);
  std::int64_t before = 0;
  const std::uint32_t last = draw_of_rank(&draws, count, keep - 1, &before);
  std::int64_t ties = keep - before;  // draws equal to the last kept one that are kept too
  for (std::int64_t word = 0; word < words; ++word) {
    const std::uint32_t* const draw = draws.word(word);
    const std::int64_t size = std::min<std::int64_t>(32, count - word * 32);
    std::uint32_t packed = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      const bool kept = draw[i] < last || (draw[i] == last && ties-- > 0);
      packed |= static_cast<std::uint32_t>(kept) << i;
    }
    sink(word, packed);
  }
}

DrawStream subnet_stream(Draw draw, std::uint64_t seed, std::int64_t site, std::int64_t subnet) {
  return {seed, draw == Draw::kExact ? Domain::kExact : Domain::kBits,
          static_cast<std::uint32_t>(site), static_cast<std::uint32_t>(subnet), 0};
}

void subnet_row_with(const DrawKernels& kernels, double p, Draw draw, std::uint64_t seed,
                     std::int64_t site, std::int64_t subnet, std::int64_t count,
                     std::uint32_t* bits) {
  if (count <= 0) return;
  const DrawStream stream = subnet_stream(draw, seed, site, subnet);
  if (draw == Draw::kExact) {
    select_smallest(kernels, stream, count, keep_count(p, count),
                    [&](std::int64_t word, std::uint32_t packed) { bits[word] = packed; });
  } else {
    bernoulli_words(kernels, stream, drop_threshold(p), 0, count, 0, ceil_div(count, 32), bits);
  }
}

}  // namespace

void subnet_row(double p, Draw draw, std::uint64_t seed, std::int64_t site, std::int64_t subnet,
                std::int64_t count, std::uint32_t* bits) {
  subnet_row_with(draw_kernels(), p, draw, seed, site, subnet, count, bits);
}

void random_subnets(std::uint64_t seed, std::int64_t step, std::int64_t subnets, std::int64_t size,
                    std::int64_t* ids) {
  const DrawStream stream = {seed, Domain::kSubnetIds, 0, static_cast<std::uint32_t>(step), 0};
  select_smallest(draw_kernels(), stream, subnets, size,
                  [&](std::int64_t word, std::uint32_t packed) {
                    for (; packed != 0; packed &= packed - 1) {
                      *ids++ = word * 32 + __builtin_ctz(packed);
                    }
                  });
}

// --- Whole masks ---------------------------------------------------------------------------------

std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args,
                            ErrorText /*error*/) {
  const MutableTileMaskView& mask = args->mask;
  const std::int64_t tile_cols = ceil_div(mask.cols, mask.tile_cols);
  const std::int64_t row_words = ceil_div(tile_cols, 32);
  const std::int64_t words = ceil_div(mask.rows, mask.tile_rows) * row_words;
  const auto row_blocks = static_cast<std::uint64_t>(ceil_div(tile_cols, 4));
  const std::int64_t first_tile_row = args->first_row / mask.tile_rows;
  const DrawStream stream = {
      read_seed(*args), Domain::kBits, static_cast<std::uint32_t>(args->site),
      static_cast<std::uint32_t>(read_step(args->step)), static_cast<std::uint32_t>(args->call)};
  const std::uint64_t threshold = drop_threshold(args->p);
  const DrawKernels kernels = draw_kernels();
  // Split by words, not by rows: a mask may be one long row.
  const std::int64_t most = words / kWordsPerThread;
  split(ctx->num_threads, words, most, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end;) {
      const std::int64_t row = at / row_words;
      const std::int64_t from = at - row * row_words;
      const std::int64_t to = std::min(row_words, from + end - at);
      bernoulli_words(kernels, stream, threshold,
                      static_cast<std::uint64_t>(first_tile_row + row) * row_blocks, tile_cols,
                      from, to, mask.bits + row * row_words);
      at += to - from;
    }
  });
  return 0;
}

std::int32_t gyro_mask(const Context* ctx, const GyroMaskArgs* args, ErrorText error) {
  const MutableTileMaskView& mask = args->mask;
  const std::int64_t tile_cols = ceil_div(mask.cols, mask.tile_cols);
  const std::int64_t row_words = ceil_div(tile_cols, 32);
  const std::int64_t rows = ceil_div(mask.rows, mask.tile_rows);
  if (rows == 0 || row_words == 0) return 0;
  const std::int64_t step = read_step(args->step);
  const SubnetSet set =
      subnet_set(args->schedule, step, whole_batch(args->part, mask.rows / args->rows_per_sample));

  std::int64_t stack_ids[kStackIds];
  std::unique_ptr<std::int64_t[]> heap_ids;
  std::int64_t* drawn = nullptr;  // null: the set's subnets are neighbours
  if (args->schedule.order == SubnetOrder::kRandom) {
    drawn = stack_ids;
    if (set.size > kStackIds) {
      heap_ids.reset(new (std::nothrow) std::int64_t[static_cast<std::size_t>(set.size)]);
      if (heap_ids == nullptr) {
        return report({StatusCode::kBackendError,
                       "gyro_mask: no memory for " + std::to_string(set.size) + " subnet ids"},
                      error);
      }
      drawn = heap_ids.get();
    }
    random_subnets(args->schedule.seed, step, args->schedule.subnets, set.size, drawn);
  }

  const DrawKernels kernels = draw_kernels();
  const std::int64_t work = set.groups * row_words + rows * row_words / 16;  // draws, copies
  split(ctx->num_threads, rows, work / kWordsPerThread, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t previous = -1;
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t sample = args->part.first + row * mask.tile_rows / args->rows_per_sample;
      const std::int64_t slot = set.slot(sample / set.group_rows);
      std::uint32_t* const bits = mask.bits + row * row_words;
      // Slabs of rows share a subnet; one draw serves them all.
      if (slot == previous) {
        std::copy_n(bits - row_words, row_words, bits);
      } else {
        subnet_row_with(kernels, args->p, args->draw, args->seed, args->site,
                        drawn != nullptr ? drawn[slot] : set.first + slot, tile_cols, bits);
      }
      previous = slot;
    }
  });
  return 0;
}

}  // namespace dropgemm::cpu
