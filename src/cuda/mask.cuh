// The kernels of mask generation. The bits are those of src/reference/mask.cc.
#pragma once

#include "cuda/mask.h"
#include "cuda/mask_word.cuh"
#include "cuda/select.cuh"

namespace dropgemm::cuda {

// 32 bits, kept where a draw reaches the threshold, of the draws from block `first` on.
DROPGEMM_DEVICE std::uint32_t threshold_word(const DrawStream& stream, std::uint32_t first,
                                             std::uint64_t threshold) {
  std::uint32_t packed = 0;
  for (std::uint32_t i = 0; i < 8; ++i) {
    const PhiloxBlock draws = stream.block(first + i);
    for (std::uint32_t j = 0; j < 4; ++j) {
      packed |= static_cast<std::uint32_t>(draws.word[j] >= threshold) << (4 * i + j);
    }
  }
  return packed;
}

// 32 bits, kept where the cutoff holds the draw, of the draws from block `first` on.
DROPGEMM_DEVICE std::uint32_t cutoff_word(const DrawStream& stream, std::uint32_t first,
                                          const Cutoff& cutoff) {
  std::uint32_t packed = 0;
  for (std::uint32_t i = 0; i < 8; ++i) {
    const PhiloxBlock draws = stream.block(first + i);
    for (std::uint32_t j = 0; j < 4; ++j) {
      const bool kept = cutoff.holds(draw_key(draws.word[j], 4 * (first + i) + j));
      packed |= static_cast<std::uint32_t>(kept) << (4 * i + j);
    }
  }
  return packed;
}

DROPGEMM_DEVICE void BernoulliMaskKernel::run(const Params& params, const Block& block) {
  DrawStream stream = params.stream;
  stream.index = static_cast<std::uint32_t>(read_step(params.step));
  if (params.seed != nullptr) stream.seed = *params.seed;
  const std::int64_t row_words = (params.columns + 31) / 32;
  const std::int64_t row_blocks = (params.columns + 3) / 4;
  const std::int64_t stride = std::int64_t{block.count} * kThreads;
  for (std::int64_t at = std::int64_t{block.index} * kThreads + block.thread; at < params.words;
       at += stride) {
    const std::int64_t row = at / row_words, word = at % row_words;
    const std::int64_t first = (params.first + row) * row_blocks + 8 * word;
    params.bits[at] = threshold_word(stream, static_cast<std::uint32_t>(first), params.threshold) &
                      valid_bits(params.columns, word);
  }
}

// A subnet's row of bits, by all threads of the block.
DROPGEMM_DEVICE void draw_subnet(const GyroMaskKernel::Params& params, const Block& block,
                                 SelectScratch* scratch, std::int64_t subnet, std::int64_t columns,
                                 std::uint32_t* row) {
  constexpr std::int32_t kThreads = GyroMaskKernel::kThreads;
  const bool exact = params.args.draw == Draw::kExact;
  const DrawStream stream = {params.args.seed, exact ? Domain::kExact : Domain::kBits,
                             static_cast<std::uint32_t>(params.args.site),
                             static_cast<std::uint32_t>(subnet), 0};
  const bool chooses = exact && params.keep > 0;
  Cutoff cutoff;
  if (chooses) {
    cutoff = smallest_draws(block, kThreads, scratch, stream, static_cast<std::uint32_t>(columns),
                            static_cast<std::uint32_t>(params.keep));
  }
  for (std::int64_t word = block.thread; word < (columns + 31) / 32; word += kThreads) {
    const auto first = static_cast<std::uint32_t>(8 * word);
    std::uint32_t packed = 0;
    if (chooses) {
      packed = cutoff_word(stream, first, cutoff);
    } else if (!exact) {
      packed = threshold_word(stream, first, params.threshold);
    }
    row[word] = packed & valid_bits(columns, word);
  }
}

// The subnet that a set's slot stands for in this step.
DROPGEMM_DEVICE std::int64_t subnet_of(const GyroSchedule& schedule, const SubnetSet& set,
                                       std::int64_t step, std::int64_t slot, const Block& block,
                                       SelectScratch* scratch) {
  constexpr std::int32_t kThreads = GyroMaskKernel::kThreads;
  if (schedule.order != SubnetOrder::kRandom) return set.first + slot;
  const DrawStream stream = {schedule.seed, Domain::kSubnetIds, 0, static_cast<std::uint32_t>(step),
                             0};
  const auto all = static_cast<std::uint32_t>(schedule.subnets);
  const Cutoff drawn =
      smallest_draws(block, kThreads, scratch, stream, all, static_cast<std::uint32_t>(set.size));
  return index_of_rank(block, kThreads, scratch, stream, all, drawn,
                       static_cast<std::uint32_t>(slot));
}

DROPGEMM_DEVICE void GyroMaskKernel::run(const Params& params, const Block& block) {
  const GyroMaskArgs& args = params.args;
  auto* const scratch = reinterpret_cast<SelectScratch*>(block.shared);
  const std::int64_t columns = (args.mask.cols + args.mask.tile_cols - 1) / args.mask.tile_cols;
  const std::int64_t row_words = (columns + 31) / 32;
  const std::int64_t step = read_step(args.step);
  const SubnetSet set = subnet_set(args.schedule, step,
                                   whole_batch(args.part, args.mask.rows / args.rows_per_sample));
  const std::int64_t stride = block.count * params.block_rows;
  for (std::int64_t first = block.index * params.block_rows; first < params.rows; first += stride) {
    const std::int64_t left = params.rows - first;
    const std::int64_t end = first + (left < params.block_rows ? left : params.block_rows);
    std::int64_t previous = -1;
    for (std::int64_t row = first; row < end; ++row) {
      const std::int64_t sample =
          args.part.first + row * args.mask.tile_rows / args.rows_per_sample;
      const std::int64_t slot = set.slot(sample / set.group_rows);
      std::uint32_t* const bits = args.mask.bits + row * row_words;
      if (slot == previous) {  // each thread copies the words that it has written itself
        for (std::int64_t w = block.thread; w < row_words; w += kThreads) {
          bits[w] = bits[w - row_words];
        }
        continue;
      }
      previous = slot;
      draw_subnet(params, block, scratch, subnet_of(args.schedule, set, step, slot, block, scratch),
                  columns, bits);
    }
  }
}

}  // namespace dropgemm::cuda
