// Mask generation on the device: which kernel, over how many blocks.
#include "cuda/mask.h"

#include <string>

#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "cuda/select.cuh"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

// Draws of an exact row are told apart by 32 bits of index.
constexpr std::int64_t kMaxExact = (std::int64_t{1} << 32) - 1;
// A block of the gyro kernel takes some rows at a time, so that what neighbours share is drawn
// once.
constexpr std::int64_t kLeastBlockRows = 4;

Status run(const Context& ctx, const BernoulliMaskArgs& args) {
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_device_of(
      {{"mask", args.mask.bits}, {"step", args.step.device}, {"seed", args.seed_device}}, &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  const MutableTileMaskView& mask = args.mask;
  BernoulliMaskKernel::Params params;
  params.bits = mask.bits;
  params.words = mask_words(mask.rows, mask.cols, mask.tile_rows, mask.tile_cols);
  params.columns = ceil_div(mask.cols, mask.tile_cols);
  params.first = args.first_row / mask.tile_rows;
  params.threshold = drop_threshold(args.p);
  params.stream = {args.seed, Domain::kBits, static_cast<std::uint32_t>(args.site), 0,
                   static_cast<std::uint32_t>(args.call)};
  params.step = args.step;
  params.seed = args.seed_device;
  return launch<BernoulliMaskKernel>(grid_of(*device, params.words, BernoulliMaskKernel::kThreads),
                                     0, ctx.stream, params);
}

Status run(const Context& ctx, const GyroMaskArgs& args) {
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(
      find_device_of({{"mask", args.mask.bits}, {"step", args.step.device}}, &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  const MutableTileMaskView& mask = args.mask;
  const std::int64_t columns = ceil_div(mask.cols, mask.tile_cols);
  if (args.draw == Draw::kExact && columns > kMaxExact) {
    return {StatusCode::kUnsupported, "mask: expected at most 2^32 - 1 columns of tiles for an " +
                                          std::string("exact draw on the cuda backend, got ") +
                                          std::to_string(columns)};
  }
  GyroMaskKernel::Params params;
  params.args = args;
  params.rows = ceil_div(mask.rows, mask.tile_rows);
  params.keep = keep_count(args.p, columns);
  params.threshold = drop_threshold(args.p);
  const std::int32_t blocks = grid_of(*device, params.rows, 1);
  params.block_rows = ceil_div(params.rows, blocks);
  return launch<GyroMaskKernel>(blocks, sizeof(SelectScratch), ctx.stream, params);
}

}  // namespace

std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args, ErrorText error) {
  return report(run(*ctx, *args), error);
}

std::int32_t gyro_mask(const Context* ctx, const GyroMaskArgs* args, ErrorText error) {
  return report(run(*ctx, *args), error);
}

}  // namespace dropgemm::cuda
