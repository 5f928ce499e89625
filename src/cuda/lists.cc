// Which masks make which bits, room for the lists, and the launches that build them.
#include "cuda/lists.h"

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/plan.h"

namespace dropgemm::cuda {
namespace {

// Of ids in one array.
constexpr std::int64_t kMostIds = std::int64_t{1} << 30;

AxisMask flipped(AxisMask mask) {
  mask.swapped = !mask.swapped;
  return mask;
}

// A mask that is a vector, as a mask of (position, anything): of its first axis, or of its second.
AxisMask along_first(const AxisMask& mask, std::int32_t second_extent) {
  return mask.present() && mask.second_tile() >= second_extent ? mask : AxisMask{};
}
AxisMask along_second(const AxisMask& mask, std::int32_t first_extent) {
  return mask.present() && mask.first_tile() >= first_extent ? flipped(mask) : AxisMask{};
}

struct Extents {
  explicit Extents(const GemmArgs& args) {
    const GemmShape s = gemm_shape(args);
    m = static_cast<std::int32_t>(s.m), n = static_cast<std::int32_t>(s.n);
    k = static_cast<std::int32_t>(s.k);
  }
  std::int32_t m, n, k;
};

ListAxis m_axis(const GemmConfig& c, std::int32_t extent) {
  return {extent, c.granule_m, c.tile_m / c.granule_m};
}
ListAxis n_axis(const GemmConfig& c, std::int32_t extent) {
  return {extent, c.granule_n, c.tile_n / c.granule_n};
}
ListAxis k_axis(const GemmConfig& c, std::int32_t extent) {
  return {extent, c.granule_k, c.tile_k / c.granule_k};
}

void set_units(const ListAxis& owner, std::int64_t unit, ListParams* p) {
  p->owner = owner;
  const std::int64_t granules = (unit + owner.granule - 1) / owner.granule;
  p->unit_granules = static_cast<std::int32_t>(std::min<std::int64_t>(granules, owner.granules()));
  p->units = (owner.granules() + p->unit_granules - 1) / p->unit_granules;
}

// A list's axes and bits, without room for it.
ListParams describe(const GemmConfig& config, const GemmArgs& args) {
  const Extents e(args);
  const GemmPlan plan = admit(args).plan;
  const AxisMask a = a_axis_mask(args), b = b_axis_mask(args), d = d_axis_mask(args);
  const ListAxis m = m_axis(config, e.m), n = n_axis(config, e.n), k = k_axis(config, e.k);
  ListParams p;
  p.kind = config.lists;
  p.lists_zeros = args.d_mask != nullptr && args.out_fill == OutFill::kZero;
  switch (config.lists) {
    case Lists::kRows:
      set_units(m, plan.unit_m, &p);
      p.x = n, p.y = k;
      p.x_kept = {d, {}};
      p.x_computed = {d, along_first(b, e.k)};
      p.y_kept = {a, along_second(b, e.n)};
      break;
    case Lists::kCols:
      set_units(n, plan.unit_n, &p);
      p.x = m, p.y = k;
      p.x_kept = {flipped(d), {}};
      p.x_computed = {flipped(d), along_first(a, e.k)};
      p.y_kept = {b, along_second(a, e.m)};
      break;
    case Lists::kDepth:
      set_units(k, plan.unit_k, &p);
      p.x = m, p.y = n;
      p.x_kept = p.x_computed = {flipped(a), along_first(d, e.n)};
      p.y_kept = {flipped(b), along_second(d, e.m)};
      p.turns = config.turns;
      break;
    case Lists::kPairs:
      p.owner = k, p.x = m, p.y = n;
      p.units = m.tiles(m.granules()) * n.tiles(n.granules());
      p.x_kept.pair = a, p.y_kept.pair = b, p.d = d;
      break;
    case Lists::kWhole:
      p.owner = k, p.x = m, p.y = n;
      break;
  }
  return p;
}

struct Room {
  std::int64_t owner_ids, x_ids, y_ids, items;
};

Room room_of(const ListParams& p) {
  const std::int64_t units = p.units;
  const std::int64_t x = p.x.padded(p.x.granules()), y = p.y.padded(p.y.granules());
  const std::int64_t owner = p.owner.padded(p.owner.granules());
  const std::int64_t x_tiles = x / p.x.ids, y_tiles = y / p.y.ids;
  switch (p.kind) {
    case Lists::kRows:
    case Lists::kCols:
      return {owner + units * p.owner.ids, units * p.x_stride(), units * p.y_stride(),
              (owner / p.owner.ids + units) * (x_tiles + 2)};
    case Lists::kDepth:
      return {owner + units * p.owner.ids, units * p.x_stride(), units * p.y_stride(),
              units * x_tiles * y_tiles};
    case Lists::kPairs:
      return {units * owner, x, y, units};
    case Lists::kWhole:
      break;
  }
  return {owner, x, y, x_tiles * y_tiles};
}

void take_room(ListParams* p, Arena* arena) {
  const Room room = room_of(*p);
  p->owner_ids = arena->take<std::int32_t>(room.owner_ids);
  p->x_ids = arena->take<std::int32_t>(room.x_ids);
  p->y_ids = arena->take<std::int32_t>(room.y_ids);
  p->items = arena->take<WorkItem>(room.items);
  p->num_items = arena->take<std::int32_t>(p->turns);
  if (p->kind == Lists::kWhole) return;
  p->records = arena->take<ListRecord>(p->units);
  if (p->kind == Lists::kPairs) return;
  p->bits = arena->take<std::uint32_t>(std::int64_t{p->units} * p->row_words());
}

}  // namespace

ListParams plan_lists(const GemmConfig& config, const GemmArgs& args, Arena* arena) {
  ListParams p = describe(config, args);
  take_room(&p, arena);
  return p;
}

ListParams plan_whole_lists(const GemmConfig& config, std::int32_t m, std::int32_t n,
                            std::int32_t k, const std::int32_t* lengths, Arena* arena) {
  ListParams p;
  p.owner = k_axis(config, k), p.x = m_axis(config, m), p.y = n_axis(config, n);
  p.lengths = lengths;
  take_room(&p, arena);
  return p;
}

bool lists_fit(const GemmConfig& config, const GemmArgs& args) {
  const Room room = room_of(describe(config, args));
  return std::max({room.owner_ids, room.x_ids, room.y_ids, room.items}) <= kMostIds;
}

std::int64_t most_items(const ListParams& params) {
  return params.turns > 1 ? params.turn_items() : room_of(params).items;
}

Status build_lists(const Device& device, const ListParams& p, void* stream) {
  constexpr std::int32_t kWarps = ListBitsKernel::kThreads / kWarp;
  if (p.kind == Lists::kWhole) {
    return launch<ListWholeKernel>(grid_of(device, most_items(p), ListWholeKernel::kThreads), 0,
                                   stream, p);
  }
  if (p.kind != Lists::kPairs && p.units <= ListOnceKernel::kMostUnits) {
    return launch<ListOnceKernel>(1, kListPlacesShared, stream, p);
  }
  const std::int32_t warps = grid_of(device, p.units, kWarps);
  if (p.kind == Lists::kPairs) {
    DROPGEMM_RETURN_IF_ERROR(launch<ListPairsKernel>(warps, 0, stream, p));
  } else {
    DROPGEMM_RETURN_IF_ERROR(launch<ListBitsKernel>(warps, 0, stream, p));
    DROPGEMM_RETURN_IF_ERROR(launch<ListClassesKernel>(warps, 0, stream, p));
  }
  DROPGEMM_RETURN_IF_ERROR(launch<ListPlacesKernel>(1, kListPlacesShared, stream, p));
  return launch<ListFillKernel>(grid_of(device, p.units, 1), 0, stream, p);
}

WorkLists work_lists(const ListParams& p, std::int32_t turn) {
  switch (p.kind) {
    case Lists::kRows:
      return {p.owner_ids, p.x_ids, p.y_ids, p.items, p.num_items};
    case Lists::kCols:
      return {p.x_ids, p.owner_ids, p.y_ids, p.items, p.num_items};
    case Lists::kDepth:
    case Lists::kPairs:
    case Lists::kWhole:
      break;
  }
  const WorkItem* const items = p.items + std::int64_t{turn} * p.turn_items();
  return {p.x_ids, p.y_ids, p.owner_ids, items, p.num_items + turn};
}

}  // namespace dropgemm::cuda
