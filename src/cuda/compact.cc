// Compaction on the device: one walk over the bits serves gathering and scattering, rows, columns
// and tiles, of 2, 4 or 8 bytes each.
#include "cuda/compact.h"

#include <algorithm>

#include "compact_room.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

MaskLines lines_of(const TileMaskView& mask) {
  const TileMaskView base = mask.transposed ? transposed(mask) : mask;
  return {mask.bits, ceil_div(mask.rows, mask.tile_rows), ceil_div(mask.cols, mask.tile_cols),
          mask_row_words(base.cols, base.tile_cols), mask.transposed};
}

template <class E, class Args>
CompactParams<E> params_of(const Args& args, bool gathers) {
  const bool turn = args.axis == CompactAxis::kRows;
  const ConstMatrixView given_x = args.x, given_xc = args.xc;
  const ConstMatrixView x = turn ? transposed(given_x) : given_x;
  const ConstMatrixView xc = turn ? transposed(given_xc) : given_xc;
  const TileMaskView mask = turn ? transposed(args.mask) : args.mask;
  CompactParams<E> params;
  params.mask = lines_of(mask);
  // No tile is taller than what it covers, so that its rows can be shared out.
  params.tile_rows = args.axis == CompactAxis::kTiles
                         ? mask.tile_rows
                         : std::clamp<std::int64_t>(x.rows, 1, mask.tile_rows);
  params.tile_cols = mask.tile_cols;
  // The one that is read comes as const void*, and the kernel keeps to that.
  params.x = static_cast<E*>(const_cast<void*>(x.data));
  params.rows = x.rows;
  params.cols = x.cols;
  params.row_stride = x.row_stride;
  params.col_stride = x.col_stride;
  params.xc = static_cast<E*>(const_cast<void*>(xc.data));
  params.xc_row_stride = xc.row_stride;
  params.xc_col_stride = xc.col_stride;
  params.size = compact_size(args);
  params.gathers = gathers;
  params.lanes_along_row = std::abs(x.col_stride) <= std::abs(x.row_stride) || x.rows <= 1;
  params.parts = ceil_div(params.tile_rows, CompactListsKernel<E>::kPartRows);
  return params;
}

// Spans of whole chunks, as many as the device has blocks for beyond lines and parts of them.
template <class E>
void share_words(const Device& device, std::int64_t chunk_words, CompactParams<E>* params) {
  const std::int64_t chunks = ceil_div(ceil_div(params->mask.tiles, 32), chunk_words);
  const std::int64_t others = std::max<std::int64_t>(params->mask.lines * params->parts, 1);
  const std::int64_t most = std::clamp<std::int64_t>(chunks, 1, device.multiprocessors);
  const std::int64_t wanted = std::clamp<std::int64_t>(device.multiprocessors / others, 1, most);
  const std::int64_t span_chunks = std::max<std::int64_t>(ceil_div(chunks, wanted), 1);
  params->span_words = span_chunks * chunk_words;
  params->spans = std::max<std::int64_t>(ceil_div(chunks, span_chunks), 1);
}

template <class E, class Args>
Status launch_move(const Context& ctx, const Args& args, bool gathers, const Device& device) {
  CompactParams<E> params = params_of<E>(args, gathers);
  if (args.axis == CompactAxis::kTiles) {
    using Kernel = CompactTilesKernel<E>;
    const std::int64_t items = params.mask.lines * ceil_div(params.mask.tiles, 32);
    return launch<Kernel>(grid_of(device, items, 1), Kernel::kSharedBytes, ctx.stream, params);
  }
  using Kernel = CompactListsKernel<E>;
  share_words(device, Kernel::kChunkWords, &params);
  const std::int64_t items = params.mask.lines * params.parts * params.spans;
  return launch<Kernel>(grid_of(device, items, 1), Kernel::kSharedBytes, ctx.stream, params);
}

template <class Args>
Status run(const Context& ctx, const Args& args, bool gathers) {
  const auto data = [](const ConstMatrixView& m) {
    return m.rows > 0 && m.cols > 0 ? m.data : nullptr;
  };
  const void* const bits = data(args.x) != nullptr ? args.mask.bits : nullptr;
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(
      find_device_of({{"x", data(args.x)}, {"xc", data(args.xc)}, {"mask", bits}}, &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  switch (dtype_size(args.x.dtype)) {
    case 2:
      return launch_move<std::uint16_t>(ctx, args, gathers, *device);
    case 4:
      return launch_move<std::uint32_t>(ctx, args, gathers, *device);
    default:
      return launch_move<std::uint64_t>(ctx, args, gathers, *device);
  }
}

}  // namespace

std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error) {
  return report(run(*ctx, *args, true), error);
}

std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error) {
  return report(run(*ctx, *args, false), error);
}

}  // namespace dropgemm::cuda
