// The kernels that build work lists.
#pragma once

#include "cuda/lists.h"

namespace dropgemm::cuda {

// --- Bits and classes
// -----------------------------------------------------------------------------

// Granule `granule` of an axis, for the unit of the owner that begins at element `owner`.
DROPGEMM_DEVICE bool granule_kept(const AxisBits& bits, const ListAxis& axis, std::int32_t owner,
                                  std::int32_t granule) {
  return granule < axis.granules() && bits.kept(owner, granule * axis.granule);
}

// Writes the words of one line of bits; mixes them into a hash that all lanes hold. Returns how
// many bits there are.
DROPGEMM_DEVICE std::int32_t write_bits(const AxisBits& bits, const ListAxis& axis,
                                        std::int32_t owner, std::int32_t words, std::int32_t lane,
                                        std::uint32_t* to, std::uint32_t* hash) {
  std::int32_t count = 0;
  for (std::int32_t w = 0; w < words; ++w) {
    const std::uint32_t word = ballot(granule_kept(bits, axis, owner, w * kWarp + lane));
    if (lane == 0) to[w] = word;
    *hash = (*hash ^ word) * 0x9E3779B1U;
    *hash ^= *hash >> 15;
    count += popc(word);
  }
  return count;
}

// A warp a unit, as in the next.
template <std::int32_t kThreads>
DROPGEMM_DEVICE void list_bits(const ListParams& p, const Block& block) {
  constexpr std::int32_t kWarps = kThreads / kWarp;
  const std::int32_t lane = block.lane();
  for (std::int32_t u = block.index * kWarps + block.warp(); u < p.units;
       u += block.count * kWarps) {
    const std::int32_t owner = u * p.unit_granules * p.owner.granule;
    std::uint32_t* const row = p.bits + std::int64_t{u} * p.row_words();
    std::uint32_t hash = 0;
    ListRecord record = {};
    record.x_computed = write_bits(p.x_computed, p.x, owner, p.x_words(), lane, row, &hash);
    record.x_kept = write_bits(p.x_kept, p.x, owner, p.x_words(), lane, row + p.x_words(), &hash);
    record.y_kept =
        write_bits(p.y_kept, p.y, owner, p.y_words(), lane, row + 2 * p.x_words(), &hash);
    record.hash = hash;
    if (lane == 0) p.records[u] = record;
  }
}

// All lanes of a warp agree on the answer.
DROPGEMM_DEVICE bool same_bits(const ListParams& p, std::int32_t u, std::int32_t v,
                               std::int32_t lane) {
  const std::uint32_t* const one = p.bits + std::int64_t{u} * p.row_words();
  const std::uint32_t* const other = p.bits + std::int64_t{v} * p.row_words();
  bool differs = false;
  for (std::int32_t w = lane; w < p.row_words(); w += kWarp) differs |= one[w] != other[w];
  return ballot(differs) == 0;
}

// How many items of each kind the class of a record has.
DROPGEMM_DEVICE void count_items(const ListParams& p, ListRecord* r) {
  const std::int32_t owner_tiles = p.owner.tiles(r->granules);
  if (p.kind == Lists::kDepth) {
    r->steps = owner_tiles;
    r->items[0] = p.x.tiles(r->x_computed) * p.y.tiles(r->y_kept);
    return;
  }
  r->steps = p.y.tiles(r->y_kept);
  r->items[0] = owner_tiles * p.x.tiles(r->x_computed);
  r->items[1] = owner_tiles * p.x.tiles(r->x_kept - r->x_computed);
  r->items[2] = p.lists_zeros ? owner_tiles * p.x.tiles(p.x.granules() - r->x_kept) : 0;
}

template <std::int32_t kThreads>
DROPGEMM_DEVICE void list_classes(const ListParams& p, const Block& block) {
  constexpr std::int32_t kChunk = ListClassesKernel::kChunk;
  constexpr std::int32_t kWarps = kThreads / kWarp;
  const std::int32_t lane = block.lane();
  for (std::int32_t u = block.index * kWarps + block.warp(); u < p.units;
       u += block.count * kWarps) {
    const std::int32_t first = u / kChunk * kChunk;
    const std::int32_t last = p.units - first < kChunk ? p.units : first + kChunk;
    const std::uint32_t hash = p.records[u].hash;
    std::int32_t representative = u, before = 0, granules = 0;
    for (std::int32_t v0 = first; v0 < last; v0 += kWarp) {
      const std::int32_t mine = v0 + lane;
      std::uint32_t candidates = ballot(mine < last && p.records[mine].hash == hash);
      for (; candidates != 0; candidates &= candidates - 1) {
        const std::int32_t v = v0 + lowest_bit(candidates);
        if (v != u && !same_bits(p, u, v, lane)) continue;
        granules += p.unit_size(v);
        if (v >= u) continue;
        before += p.unit_size(v);
        if (v < representative) representative = v;
      }
    }
    if (lane != 0) continue;
    ListRecord record = p.records[u];
    record.representative = representative;
    record.before = before;
    record.granules = granules;
    if (representative == u) count_items(p, &record);
    // Others read the hash meanwhile, which stays.
    p.records[u] = record;
  }
}

// --- Places
// ---------------------------------------------------------------------------------------

// Items by falling steps, in all buckets but two, which are for the empty and the dropped.
DROPGEMM_DEVICE std::int32_t bucket_of(std::int32_t steps, std::int32_t most_steps) {
  constexpr std::int32_t kLast = kListBuckets - 3;
  return most_steps <= 1
             ? 0
             : kLast - static_cast<std::int32_t>(std::int64_t{steps} * kLast / most_steps);
}

// Each unit's items at a place of their own, counted by themselves.
template <std::int32_t kThreads>
DROPGEMM_DEVICE void list_turns(const ListParams& p, const Block& block) {
  auto* const owner_end = reinterpret_cast<std::int32_t*>(block.shared);
  if (block.thread == 0) *owner_end = 0;
  sync_block();
  for (std::int32_t u = block.thread; u < p.units; u += kThreads) {
    ListRecord* const r = p.records + u;
    const bool represents = r->representative == u;
    p.num_items[u] = represents ? r->items[0] : 0;
    if (!represents) continue;
    r->item_begin[0] = u * p.turn_items();
    r->owner_begin = atomic_add(owner_end, p.owner.padded(r->granules));
  }
}

template <std::int32_t kThreads>
DROPGEMM_DEVICE void list_places(const ListParams& p, const Block& block) {
  if (p.turns > 1) return list_turns<kThreads>(p, block);
  static_assert(kThreads >= kListBuckets, "a thread a bucket");
  auto* const begins = reinterpret_cast<std::int32_t*>(block.shared);  // [kListBuckets], then sums
  std::int32_t* const sums = begins + kListBuckets;
  std::int32_t* const owner_end = sums + kListBuckets;
  const std::int32_t t = block.thread;
  const bool has_bucket = t < kListBuckets;
  const bool by_depth = p.kind == Lists::kDepth || p.kind == Lists::kPairs;
  const std::int32_t most_steps =
      by_depth ? p.owner.tiles(p.owner.granules()) : p.y.tiles(p.y.granules());
  if (has_bucket) begins[t] = 0;
  if (t == 0) *owner_end = 0;
  sync_block();
  for (std::int32_t u = t; u < p.units; u += kThreads) {
    ListRecord* const r = p.records + u;
    if (r->representative != u) continue;
    if (r->items[0] != 0) atomic_add(begins + bucket_of(r->steps, most_steps), r->items[0]);
    if (r->items[1] != 0) atomic_add(begins + kListBuckets - 2, r->items[1]);
    if (r->items[2] != 0) atomic_add(begins + kListBuckets - 1, r->items[2]);
    r->owner_begin = atomic_add(owner_end, p.owner.padded(r->granules));
  }
  sync_block();
  const std::int32_t mine = has_bucket ? begins[t] : 0;
  if (has_bucket) sums[t] = mine;
  sync_block();
  for (std::int32_t step = 1; step < kListBuckets; step *= 2) {
    const std::int32_t left = has_bucket && t >= step ? sums[t - step] : 0;
    sync_block();
    if (has_bucket) sums[t] += left;
    sync_block();
  }
  if (has_bucket) begins[t] = sums[t] - mine;
  if (t == kListBuckets - 1) *p.num_items = sums[t];
  sync_block();
  for (std::int32_t u = t; u < p.units; u += kThreads) {
    ListRecord* const r = p.records + u;
    if (r->representative != u) continue;
    r->item_begin[0] = atomic_add(begins + bucket_of(r->steps, most_steps), r->items[0]);
    r->item_begin[1] = atomic_add(begins + kListBuckets - 2, r->items[1]);
    r->item_begin[2] = atomic_add(begins + kListBuckets - 1, r->items[2]);
  }
}

// --- Ids and items
// --------------------------------------------------------------------------------

DROPGEMM_DEVICE void write_padding(std::int32_t* ids, std::int32_t from, std::int32_t to,
                                   std::int32_t lane) {
  for (std::int32_t i = from + lane; i < to; i += kWarp) ids[i] = kPadding;
}
// Calls kept(i) for each of `count` places.
template <class Kept>
DROPGEMM_DEVICE std::int32_t write_ids(const Kept& kept, std::int32_t count, std::int32_t lane,
                                       std::int32_t* ids) {
  std::int32_t written = 0;
  for (std::int32_t begin = 0; begin < count; begin += kWarp) {
    const bool mine = begin + lane < count && kept(begin + lane);
    const std::uint32_t word = ballot(mine);
    if (mine) ids[written + popc(word & ((1U << lane) - 1))] = begin + lane;
    written += popc(word);
  }
  return written;
}

// The ids of a class along x: computed, kept but empty, dropped, each of whole tiles.
DROPGEMM_DEVICE void fill_x(const ListParams& p, std::int32_t unit, std::int32_t lane) {
  const std::uint32_t* const computed = p.bits + std::int64_t{unit} * p.row_words();
  const std::uint32_t* const kept = computed + p.x_words();
  const auto bit = [](const std::uint32_t* words, std::int32_t i) {
    return (words[i / kWarp] >> (i % kWarp) & 1U) != 0;
  };
  std::int32_t* ids = p.x_ids + unit * p.x_stride();
  const auto fill = [&](const auto& chosen) {
    const std::int32_t count = write_ids(chosen, p.x.granules(), lane, ids);
    write_padding(ids, count, p.x.padded(count), lane);
    ids += p.x.padded(count);
  };
  fill([&](std::int32_t i) { return bit(computed, i); });
  if (p.kind == Lists::kDepth) return;
  fill([&](std::int32_t i) { return bit(kept, i) && !bit(computed, i); });
  if (p.lists_zeros) fill([&](std::int32_t i) { return !bit(kept, i); });
}

DROPGEMM_DEVICE void fill_y(const ListParams& p, std::int32_t unit, std::int32_t lane) {
  const std::uint32_t* const words = p.bits + std::int64_t{unit} * p.row_words() + 2 * p.x_words();
  std::int32_t* const ids = p.y_ids + unit * p.y_stride();
  const std::int32_t count =
      write_ids([&](std::int32_t i) { return (words[i / kWarp] >> (i % kWarp) & 1U) != 0; },
                p.y.granules(), lane, ids);
  write_padding(ids, count, p.y.padded(count), lane);
}

// A unit's granules, among those of its class.
DROPGEMM_DEVICE void fill_owner(const ListParams& p, std::int32_t unit, std::int32_t lane) {
  const ListRecord& own = p.records[unit];
  const ListRecord& whole = p.records[own.representative];
  std::int32_t* const ids = p.owner_ids + whole.owner_begin;
  for (std::int32_t i = lane; i < p.unit_size(unit); i += kWarp) {
    ids[own.before + i] = unit * p.unit_granules + i;
  }
  if (own.representative == unit) {
    write_padding(ids, own.granules, p.owner.padded(own.granules), lane);
  }
}

// Item `i` of the class's `which` kind.
DROPGEMM_DEVICE WorkItem item_of(const ListParams& p, std::int32_t unit, const ListRecord& r,
                                 std::int32_t which, std::int32_t i) {
  if (p.kind == Lists::kDepth) {
    const TilePlace tile = place_of_tile(i, p.x.tiles(r.x_computed), p.y.tiles(r.y_kept));
    return {unit * p.x_stride() + tile.row * p.x.ids, unit * p.y_stride() + tile.col * p.y.ids,
            r.owner_begin, r.steps};
  }
  const std::int32_t counts[3] = {r.x_computed, r.x_kept - r.x_computed, p.x.granules() - r.x_kept};
  std::int32_t x = unit * p.x_stride();
  for (std::int32_t before = 0; before < which; ++before) x += p.x.padded(counts[before]);
  const TilePlace tile = place_of_tile(i, p.owner.tiles(r.granules), p.x.tiles(counts[which]));
  const std::int32_t owner = r.owner_begin + tile.row * p.owner.ids;
  x += tile.col * p.x.ids;
  const std::int32_t steps = which == 0 ? r.steps : which == 1 ? 0 : kDropped;
  const bool rows = p.kind == Lists::kRows;
  return {rows ? owner : x, rows ? x : owner, unit * p.y_stride(), steps};
}

template <std::int32_t kThreads>
DROPGEMM_DEVICE void fill_items(const ListParams& p, std::int32_t unit, std::int32_t thread) {
  const ListRecord r = p.records[unit];
  for (std::int32_t which = 0; which < 3; ++which) {
    for (std::int32_t i = thread; i < r.items[which]; i += kThreads) {
      p.items[r.item_begin[which] + i] = item_of(p, unit, r, which, i);
    }
  }
}

DROPGEMM_DEVICE void fill_pair_item(const ListParams& p, std::int32_t unit, std::int32_t thread) {
  const ListRecord& r = p.records[unit];
  if (thread >= 3 || r.items[thread] == 0) return;
  const TilePlace tile = place_of_tile(unit, p.x.tiles(p.x.granules()), p.y.tiles(p.y.granules()));
  p.items[r.item_begin[thread]] = {tile.row * p.x.ids, tile.col * p.y.ids,
                                   unit * p.owner.padded(p.owner.granules()),
                                   thread == 0   ? r.steps
                                   : thread == 1 ? 0
                                                 : kDropped};
}

// Ids: three lists of a unit, a warp a list. Items: a block a unit.
template <std::int32_t kThreads>
DROPGEMM_DEVICE void list_fill(const ListParams& p, const Block& block) {
  constexpr std::int32_t kWarps = kThreads / kWarp, kListsOfUnit = 3;
  const std::int32_t lists = p.kind == Lists::kPairs ? 0 : kListsOfUnit * p.units;
  for (std::int32_t i = block.index * kWarps + block.warp(); i < lists; i += block.count * kWarps) {
    const std::int32_t u = i / kListsOfUnit, which = i % kListsOfUnit;
    if (which == 0) fill_owner(p, u, block.lane());
    if (which == 0 || p.records[u].representative != u) continue;
    if (which == 1) fill_x(p, u, block.lane());
    if (which == 2) fill_y(p, u, block.lane());
  }
  for (std::int32_t u = block.index; u < p.units; u += block.count) {
    if (p.kind == Lists::kPairs) {
      fill_pair_item(p, u, block.thread);
    } else if (p.records[u].representative == u) {
      fill_items<kThreads>(p, u, block.thread);
    }
  }
}

// --- Kernels of one step, and of all -------------------------------------------------------------

DROPGEMM_DEVICE void ListBitsKernel::run(const Params& p, const Block& block) {
  list_bits<kThreads>(p, block);
}
DROPGEMM_DEVICE void ListClassesKernel::run(const Params& p, const Block& block) {
  list_classes<kThreads>(p, block);
}
DROPGEMM_DEVICE void ListPlacesKernel::run(const Params& p, const Block& block) {
  list_places<kThreads>(p, block);
}
DROPGEMM_DEVICE void ListFillKernel::run(const Params& p, const Block& block) {
  list_fill<kThreads>(p, block);
}
DROPGEMM_DEVICE void ListOnceKernel::run(const Params& p, const Block& block) {
  list_bits<kThreads>(p, block);
  sync_block();
  list_classes<kThreads>(p, block);
  sync_block();
  list_places<kThreads>(p, block);
  sync_block();
  list_fill<kThreads>(p, block);
}

// --- Without classes
// ------------------------------------------------------------------------------

// Ids 0, 1, ... of `count` granules, padded to whole tiles, by all threads of the grid.
DROPGEMM_DEVICE void fill_identity(const ListAxis& axis, std::int32_t count, std::int32_t first,
                                   std::int32_t stride, std::int32_t* ids) {
  for (std::int32_t i = first; i < axis.padded(count); i += stride) {
    ids[i] = i < count ? i : kPadding;
  }
}

// The mask of a tile is that of its first element: units are whole tiles.
DROPGEMM_DEVICE void ListPairsKernel::run(const Params& p, const Block& block) {
  constexpr std::int32_t kWarps = kThreads / kWarp;
  const std::int32_t lane = block.lane();
  const std::int32_t first = block.index * kThreads + block.thread;
  fill_identity(p.x, p.x.granules(), first, block.count * kThreads, p.x_ids);
  fill_identity(p.y, p.y.granules(), first, block.count * kThreads, p.y_ids);
  for (std::int32_t u = block.index * kWarps + block.warp(); u < p.units;
       u += block.count * kWarps) {
    const TilePlace tile = place_of_tile(u, p.x.tiles(p.x.granules()), p.y.tiles(p.y.granules()));
    const std::int32_t m = tile.row * p.x.ids * p.x.granule, n = tile.col * p.y.ids * p.y.granule;
    const bool kept = p.d.kept(m, n);
    std::int32_t* const ids = p.owner_ids + std::int64_t{u} * p.owner.padded(p.owner.granules());
    std::int32_t count = 0;
    if (kept) {
      count = write_ids(
          [&](std::int32_t i) {
            const std::int32_t k = i * p.owner.granule;
            return p.x_kept.pair.kept(m, k) && p.y_kept.pair.kept(n, k);
          },
          p.owner.granules(), lane, ids);
      write_padding(ids, count, p.owner.padded(count), lane);
    }
    if (lane != 0) continue;
    ListRecord record = {};
    record.representative = u;
    record.steps = p.owner.tiles(count);
    record.items[0] = count > 0 ? 1 : 0;
    record.items[1] = kept && count == 0 ? 1 : 0;
    record.items[2] = !kept && p.lists_zeros ? 1 : 0;
    p.records[u] = record;
  }
}

DROPGEMM_DEVICE void ListWholeKernel::run(const Params& p, const Block& block) {
  const std::int32_t first = block.index * kThreads + block.thread;
  const std::int32_t stride = block.count * kThreads;
  const auto granules = [&](const ListAxis& axis, std::int32_t which) {
    if (p.lengths == nullptr) return axis.granules();
    return (p.lengths[which] + axis.granule - 1) / axis.granule;
  };
  // Where nothing is kept, one tile still answers for the rows or columns of D.
  const auto lines = [&](const ListAxis& axis, std::int32_t which) {
    const std::int32_t count = granules(axis, which);
    return count > 0 ? count : 1;
  };
  const std::int32_t m = lines(p.x, 0), n = lines(p.y, 1), k = granules(p.owner, 2);
  fill_identity(p.x, m, first, stride, p.x_ids);
  fill_identity(p.y, n, first, stride, p.y_ids);
  fill_identity(p.owner, k, first, stride, p.owner_ids);
  const std::int32_t rows = p.x.tiles(m), cols = p.y.tiles(n);
  for (std::int32_t i = first; i < rows * cols; i += stride) {
    const TilePlace tile = place_of_tile(i, rows, cols);
    p.items[i] = {tile.row * p.x.ids, tile.col * p.y.ids, 0, p.owner.tiles(k)};
  }
  if (first == 0) *p.num_items = rows * cols;
}

}  // namespace dropgemm::cuda
