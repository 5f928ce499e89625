// The Hopper kernel's host side: which tile a product gets, what the accelerator is told about its
// arrays, and the launch.
#include "cuda/kernel_sm90.h"

#include <algorithm>

namespace dropgemm::cuda {
namespace {

constexpr std::int32_t kHopper = 90;

// Whether units of this size, neighbours that are kept or dropped together, consist of granules.
bool consists_of(std::int64_t unit, std::int64_t extent, std::int64_t granule) {
  return unit >= extent || unit % granule == 0;
}

// Whether tiles are full: what owns the lists fills tiles with units of one class, of which there
// may be one alone.
bool fills_tiles(std::int64_t unit, std::int64_t extent, std::int64_t tile) {
  return std::min(unit, extent) % tile == 0 || unit >= extent;
}

// Whether there are tiles for every multiprocessor.
bool fills_device(const Device& device, const GemmShape& shape, double computed,
                  const Sm90Tile& tile) {
  return computed * static_cast<double>(shape.m) * static_cast<double>(shape.n) >=
         static_cast<double>(device.multiprocessors) *
             static_cast<double>(tile.block_m() * tile.block_n());
}

// Whether an operand can be loaded as it lies.
bool loads(const ConstMatrixView& view) {
  const bool by_rows = view.col_stride == 1;
  TmaArray array;
  array.data = view.data;
  array.dtype = view.dtype;
  array.contiguous = by_rows ? view.cols : view.rows;
  array.rows = by_rows ? view.rows : view.cols;
  array.row_stride = by_rows ? view.row_stride : view.col_stride;
  return tma_takes(array);
}

bool suits(const GemmConfig& config, const GemmShape& shape, const GemmPlan& plan,
           const Sm90Tile& tile) {
  if (config.path != GemmPath::kPruned) return true;
  const bool granules = consists_of(plan.unit_m, shape.m, tile.granule_m) &&
                        consists_of(plan.unit_n, shape.n, tile.granule_n) &&
                        consists_of(plan.unit_k, shape.k, tile.granule_k);
  switch (config.lists) {
    case Lists::kWhole:
    case Lists::kDepth:
      return granules;
    case Lists::kRows:
      return granules && (tile.tile_m <= 128 || fills_tiles(plan.unit_m, shape.m, tile.tile_m));
    case Lists::kCols:
      return granules && (tile.tile_n <= 128 || fills_tiles(plan.unit_n, shape.n, tile.tile_n));
    case Lists::kPairs:
      return granules && tile.tile_m <= 128 && tile.tile_n <= 128;
  }
  return false;
}

void set_tile(const Sm90Tile& tile, GemmConfig* config) {
  config->family = Family::kSm90;
  config->tile_m = tile.tile_m;
  config->tile_n = tile.tile_n;
  config->tile_k = sm90_tile_k(static_cast<std::int32_t>(dtype_size(config->dtype)));
  config->granule_m = tile.granule_m;
  config->granule_n = tile.granule_n;
  config->granule_k = tile.granule_k;
  config->stages = tile.stages;
  config->cluster_m = tile.cluster_m;
  config->cluster_n = tile.cluster_n;
}

Sm90Shape shape_of(const GemmConfig& config) {
  for (const Sm90Shape shape : {Sm90Shape::kPair, Sm90Shape::kWide}) {
    const Sm90Tile tile = sm90_tile(shape, config.a_major);
    if (tile.tile_m == config.tile_m && tile.tile_n == config.tile_n) return shape;
  }
  return Sm90Shape::kSquare;
}

template <class E>
TmaArray array_of(const Input<E>& input, Major major, std::int64_t lines, std::int64_t depth) {
  TmaArray array;
  array.data = input.data;
  array.dtype = dtype_of<E>::value;
  array.rounds = true;
  if (major == Major::kDepth) {
    array.contiguous = depth;
    array.rows = lines;
    array.row_stride = input.line_stride;
  } else {
    array.contiguous = lines;
    array.rows = depth;
    array.row_stride = input.depth_stride;
  }
  return array;
}

// Where the sums go: D, or the staging.
template <class E>
TmaArray target_of(const Product<E>& product) {
  TmaArray array;
  array.contiguous = product.n;
  array.rows = product.m;
  if (product.staging.data != nullptr) {
    array.data = product.staging.data;
    array.row_stride = product.staging.row_stride;
  } else {
    array.data = product.epilogue.d.data;
    array.dtype = dtype_of<E>::value;
    array.row_stride = product.epilogue.d.row_stride;
  }
  return array;
}

// Whether pairs of neighbours can be read at once.
template <class E>
bool reads_pairs(const E* data, std::int64_t row_stride, std::int64_t col_stride, std::int32_t n) {
  return data == nullptr || (n % 2 == 0 && row_stride % 2 == 0 && col_stride == 1 &&
                             reinterpret_cast<std::uintptr_t>(data) % (2 * sizeof(E)) == 0);
}

// Whether boxes of D hold all that the epilogue has to write.
template <class E>
bool writes_boxes(const Product<E>& product) {
  const Epilogue<E>& epilogue = product.epilogue;
  const Plane<const E>& slopes = epilogue.grad_aux;
  const bool relus =
      (epilogue.activation == Activation::kRelu || epilogue.activation == Activation::kNone) &&
      (slopes.data == nullptr || epilogue.grad_activation == Activation::kRelu);
  return relus && reads_pairs(slopes.data, slopes.row_stride, slopes.col_stride, product.n) &&
         reads_pairs(epilogue.bias, 0, epilogue.bias_stride, product.n) &&
         epilogue.addend.data == nullptr && epilogue.aux_out.data == nullptr &&
         epilogue.mask.bits == nullptr && epilogue.d.col_stride == 1;
}

template <class E>
Sm90Store store_of(const Product<E>& product) {
  if (product.staging.data != nullptr) return Sm90Store::kAddSums;
  const bool boxes = !product.spreads() && writes_boxes(product) && tma_takes(target_of(product));
  return boxes ? Sm90Store::kBoxes : Sm90Store::kElements;
}

template <class E>
Status make_params(const GemmConfig& config, const Sm90Tile& tile, const Product<E>& product,
                   Sm90Params<E>* params) {
  constexpr auto kBytes = static_cast<std::int32_t>(sizeof(E));
  params->product = product;
  params->store = store_of(product);
  DROPGEMM_RETURN_IF_ERROR(
      make_tensor_map("a", array_of(product.a, config.a_major, product.m, product.k),
                      sm90_a(tile, config.a_major, kBytes).layout, &params->a));
  DROPGEMM_RETURN_IF_ERROR(
      make_tensor_map("b", array_of(product.b, config.b_major, product.n, product.k),
                      sm90_b(tile, config.b_major, kBytes).layout, &params->b));
  if (params->store == Sm90Store::kElements) return {};
  const TmaArray target = target_of(product);
  const auto target_bytes = static_cast<std::int32_t>(dtype_size(target.dtype));
  DROPGEMM_RETURN_IF_ERROR(
      make_tensor_map("d", target, sm90_d_layout(tile, target_bytes), &params->d));
  if (params->store != Sm90Store::kBoxes) return {};
  return make_tensor_map("d", target, sm90_zeros_layout(tile, target_bytes), &params->zeros);
}

template <class E>
using Launcher = Status (*)(std::int32_t, void*, const Sm90Params<E>&);

template <class E, Major kMajorA, Major kMajorB>
Launcher<E> launcher_of(Sm90Shape shape) {
  if (shape == Sm90Shape::kSquare) return launch_sm90<E, kMajorA, kMajorB, Sm90Shape::kSquare>;
  if (shape == Sm90Shape::kWide) return launch_sm90<E, kMajorA, kMajorB, Sm90Shape::kWide>;
  if constexpr (has_sm90_kernel(dtype_of<E>::value, kMajorA, kMajorB, Sm90Shape::kPair)) {
    return launch_sm90<E, kMajorA, kMajorB, Sm90Shape::kPair>;
  }
  return nullptr;
}

template <class E>
Launcher<E> launcher_of(const GemmConfig& config, Sm90Shape shape) {
  if (!has_sm90_kernel(config.dtype, config.a_major, config.b_major, shape)) return nullptr;
  if constexpr (dtype_of<E>::value != DType::kFloat32) {
    if (config.a_major == Major::kLine) {
      return launcher_of<E, Major::kLine, Major::kLine>(shape);
    }
    if (config.b_major == Major::kLine) {
      return launcher_of<E, Major::kDepth, Major::kLine>(shape);
    }
  }
  return launcher_of<E, Major::kDepth, Major::kDepth>(shape);
}

}  // namespace

void choose_sm90(const Device& device, const GemmArgs& args, const GemmPlan& plan, double computed,
                 GemmConfig* config) {
  if (device.arch != kHopper) return;
  if (!config->copies_a && !loads(args.a)) return;
  if (!config->copies_b && !loads(args.b)) return;
  const GemmShape shape = gemm_shape(args);
  // The widest tile that what is kept can fill, for it loads the least for each multiply-add.
  for (const Sm90Shape wanted : {Sm90Shape::kPair, Sm90Shape::kWide, Sm90Shape::kSquare}) {
    if (!has_sm90_kernel(config->dtype, config->a_major, config->b_major, wanted)) continue;
    const Sm90Tile tile = sm90_tile(wanted, config->a_major);
    if (!suits(*config, shape, plan, tile)) continue;
    if (wanted != Sm90Shape::kSquare && !fills_device(device, shape, computed, tile)) continue;
    set_tile(tile, config);
    return;
  }
}

template <class E>
Status run_sm90(const Device& device, const GemmConfig& config, const Product<E>& product,
                std::int64_t most_items, void* stream) {
  const Sm90Shape shape = shape_of(config);
  const Launcher<E> launch = launcher_of<E>(config, shape);
  if (launch == nullptr) {
    return {StatusCode::kBackendError, "cuda: no kernel for " + to_string(config)};
  }
  Sm90Params<E> params;
  DROPGEMM_RETURN_IF_ERROR(make_params(config, sm90_tile(shape, config.a_major), product, &params));
  const std::int64_t room = device.multiprocessors / (config.cluster_m * config.cluster_n);
  const std::int64_t clusters = std::min(std::max<std::int64_t>(room, 1), most_items);
  return launch(static_cast<std::int32_t>(std::max<std::int64_t>(clusters, 1)), stream, params);
}

template Status run_sm90(const Device&, const GemmConfig&, const Product<BFloat16>&, std::int64_t,
                         void*);
template Status run_sm90(const Device&, const GemmConfig&, const Product<Float16>&, std::int64_t,
                         void*);
template Status run_sm90(const Device&, const GemmConfig&, const Product<float>&, std::int64_t,
                         void*);

}  // namespace dropgemm::cuda
