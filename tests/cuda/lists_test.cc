// Work lists against masks looked up one by one: what items cover, once each, what they say of the
// rest, and their order.
#include "cuda/lists.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "cuda/plan.h"
#include "gemm_case.h"

namespace dropgemm::cuda {
namespace {

using testing::Mask;
using testing::TileSize;

constexpr std::int32_t kGranule = 32;

std::int32_t granules(std::int64_t extent) {
  return static_cast<std::int32_t>((extent + kGranule - 1) / kGranule);
}

struct Case {
  Lists lists;
  std::int64_t m, n, k;
  TileSize a, b, d;  // as (M, K), (K, N), (M, N)
  double keep;
  bool fills = true;
  bool turns = false;  // units of depth, one after the other
};

// What a granule of D is owed.
struct Owed {
  std::int32_t times = 0;  // it was named by items that write it
  std::int32_t k_count = 0;
  std::multiset<std::int32_t> depths;
};

class Built {
 public:
  Built(const Case& c, std::uint64_t seed)
      : random_(seed), a_(c.m, c.k, c.a, c.keep, false, random_),
        b_(c.k, c.n, c.b, c.keep, false, random_), d_(c.m, c.n, c.d, c.keep, false, random_) {
    args.a = {nullptr, c.m, c.k, c.k, 1, DType::kFloat32};
    args.b = {nullptr, c.k, c.n, c.n, 1, DType::kFloat32};
    args.d = {nullptr, c.m, c.n, c.n, 1, DType::kFloat32};
    args.a_mask = a_.view(), args.b_mask = b_.view(), args.d_mask = d_.view();
    if (!c.fills) args.out_fill = OutFill::kUndefined;
    config.lists = c.lists;
    config.path = GemmPath::kPruned;
    if (c.turns) config.turns = granules(c.k) * kGranule / static_cast<std::int32_t>(c.b.rows);
    config.tile_m = config.tile_n = 128, config.tile_k = 64;
    config.granule_m = config.granule_n = config.granule_k = kGranule;
    Arena measure(nullptr);
    static_cast<void>(plan_lists(config, args, &measure));
    memory_.resize(measure.bytes() + 64, '\x5A');
    Arena arena(memory_.data());
    params = plan_lists(config, args, &arena);
    Device device;
    device.multiprocessors = 3;
    EXPECT_TRUE(build_lists(device, params, nullptr).ok());
  }
  [[nodiscard]] bool a_keeps(std::int32_t m, std::int32_t k) const { return keeps(a_, m, k); }
  [[nodiscard]] bool b_keeps(std::int32_t k, std::int32_t n) const { return keeps(b_, k, n); }
  [[nodiscard]] bool d_keeps(std::int32_t m, std::int32_t n) const { return keeps(d_, m, n); }

  GemmArgs args;
  GemmConfig config;
  ListParams params;

 private:
  static bool keeps(const Mask& mask, std::int32_t i, std::int32_t j) {
    return mask.view() == nullptr ||
           element_kept(*mask.view(), std::int64_t{i} * kGranule, std::int64_t{j} * kGranule);
  }
  std::mt19937_64 random_;
  Mask a_, b_, d_;
  std::vector<char> memory_;
};

// Every granule of D that items of a turn name, each with the granules of depth that are multiplied
// for it, beside those of earlier turns.
void read(const Built& built, std::int32_t turn,
          std::map<std::pair<std::int32_t, std::int32_t>, Owed>* all) {
  const WorkLists lists = work_lists(built.params, turn);
  auto& owed = *all;
  EXPECT_LE(*lists.num_items, most_items(built.params));
  for (std::int32_t i = 0; i < *lists.num_items; ++i) {
    const WorkItem& item = lists.items[i];
    for (std::int32_t at_m = 0; at_m < 4; ++at_m) {
      for (std::int32_t at_n = 0; at_n < 4; ++at_n) {
        const std::int32_t m = lists.m_ids[item.m_begin + at_m];
        const std::int32_t n = lists.n_ids[item.n_begin + at_n];
        if (m == kPadding || n == kPadding) continue;
        Owed& granule = owed[{m, n}];
        ++granule.times;
        granule.k_count = item.k_count;
        for (std::int32_t at_k = 0; at_k < 2 * item.k_count; ++at_k) {
          const std::int32_t k = lists.k_ids[item.k_begin + at_k];
          if (k != kPadding) granule.depths.insert(k);
        }
      }
    }
  }
}

void check(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE("lists " + std::to_string(static_cast<int>(c.lists)) + " seed " +
               std::to_string(seed));
  const Built built(c, seed);
  std::map<std::pair<std::int32_t, std::int32_t>, Owed> owed;
  for (std::int32_t turn = 0; turn < built.params.turns; ++turn) {
    read(built, turn, &owed);
    // Nothing is added to twice in a turn, so in no order of its own.
    if (c.turns) {
      for (const auto& [place, granule] : owed) ASSERT_LE(granule.times, turn + 1);
    }
  }
  for (std::int32_t m = 0; m < granules(c.m); ++m) {
    for (std::int32_t n = 0; n < granules(c.n); ++n) {
      std::multiset<std::int32_t> depths;
      for (std::int32_t k = 0; k < granules(c.k); ++k) {
        if (built.a_keeps(m, k) && built.b_keeps(k, n)) depths.insert(k);
      }
      const bool kept = built.d_keeps(m, n);
      const auto found = owed.find({m, n});
      const Owed got = found != owed.end() ? found->second : Owed{};
      if (c.lists == Lists::kDepth) {  // sums alone: what has none is nobody's item
        ASSERT_EQ(got.depths, kept ? depths : decltype(depths){}) << m << ", " << n;
        continue;
      }
      ASSERT_EQ(got.times, kept || c.fills ? 1 : 0) << m << ", " << n;
      if (kept) {
        ASSERT_EQ(got.depths, depths) << m << ", " << n;
        ASSERT_EQ(got.k_count, (static_cast<std::int32_t>(depths.size()) + 1) / 2);
      } else if (c.fills) {
        ASSERT_EQ(got.k_count, kDropped) << m << ", " << n;
      }
    }
  }
  const WorkLists lists = work_lists(built.params);
  for (std::int32_t i = 1; i < *lists.num_items; ++i) {
    ASSERT_GE(lists.items[i - 1].k_count, lists.items[i].k_count) << "item " << i;
  }
}

TEST(Lists, NameWhatIsKeptOnce) {
  const Case cases[] = {
      {Lists::kRows, 700, 330, 430, {64, 32}, {}, {64, 32}, 0.5},
      {Lists::kRows, 700, 330, 430, {128, 64}, {1000, 32}, {64, 32}, 0.4},
      {Lists::kRows, 300, 330, 200, {64, 32}, {32, 1000}, {1000, 32}, 0.5},
      {Lists::kRows, 512, 512, 40, {}, {}, {32, 32, 4, 1}, 1.0},
      {Lists::kRows, 700, 330, 430, {64, 32}, {}, {64, 32}, 0.1, false},
      {Lists::kRows, 2500, 70, 200, {32, 32}, {}, {64, 32}, 0.5},  // more units than one block
                                                                   // takes
      {Lists::kCols, 330, 500, 430, {}, {32, 32, 3, 2}, {}, 1.0},
      {Lists::kCols, 330, 500, 430, {1000, 32}, {64, 32}, {32, 64}, 0.5},
      {Lists::kDepth, 330, 260, 1000, {32, 128}, {128, 32}, {}, 0.5},
      {Lists::kDepth, 330, 260, 1000, {32, 128}, {128, 32}, {1000, 32}, 0.3},
      {Lists::kDepth, 330, 260, 1000, {32, 128}, {128, 32}, {}, 0.5, true, true},
      {Lists::kDepth, 330, 260, 1000, {32, 64, 3, 1}, {64, 32, 2, 0}, {}, 1.0, true, true},
      {Lists::kDepth, 330, 260, 2600, {32, 32}, {32, 64}, {1000, 32}, 0.3, true, true},
      {Lists::kPairs, 520, 300, 430, {128, 32}, {32, 128}, {128, 128}, 0.5},
      {Lists::kPairs, 520, 300, 430, {128, 64}, {64, 256}, {256, 128}, 0.3, false},
  };
  for (const Case& c : cases) {
    for (std::uint64_t seed = 1; seed < 6; ++seed) check(c, seed);
  }
}

// Units that keep the same fill tiles together: a pattern of period 4 makes four classes.
TEST(Lists, EqualUnitsAreOneClass) {
  const Case c = {Lists::kRows, 1024, 256, 256, {32, 32, 4, 0}, {}, {}, 1.0};
  const Built built(c, 1);
  const WorkLists lists = work_lists(built.params);
  // 32 units of 32 rows in 4 classes of 8: two tiles of rows each, by two of columns.
  EXPECT_EQ(*lists.num_items, 4 * 2 * 2);
  for (std::int32_t i = 0; i < *lists.num_items; ++i) {
    for (std::int32_t at = 0; at < 4; ++at) {
      EXPECT_NE(lists.m_ids[lists.items[i].m_begin + at], kPadding);
    }
  }
}

TEST(Lists, WholeOfUnknownLength) {
  GemmConfig config;
  config.tile_m = config.tile_n = 128, config.tile_k = 32;
  config.granule_m = config.granule_n = config.granule_k = kGranule;
  const std::int32_t lengths[] = {130, 1, 70};
  Arena measure(nullptr);
  static_cast<void>(plan_whole_lists(config, 300, 200, 100, lengths, &measure));
  std::vector<char> memory(measure.bytes() + 64);
  Arena arena(memory.data());
  const ListParams params = plan_whole_lists(config, 300, 200, 100, lengths, &arena);
  ASSERT_TRUE(build_lists(Device(), params, nullptr).ok());
  const WorkLists lists = work_lists(params);
  ASSERT_EQ(*lists.num_items, 2);
  EXPECT_EQ(lists.items[1].m_begin, 4);
  EXPECT_EQ(lists.items[1].k_count, 3);
  const std::vector<std::int32_t> m_ids(lists.m_ids, lists.m_ids + 8);
  EXPECT_EQ(m_ids, (std::vector<std::int32_t>{0, 1, 2, 3, 4, -1, -1, -1}));
  EXPECT_EQ(lists.n_ids[1], kPadding);
}

TEST(Lists, BandsOfTilesHoldEachOnce) {
  for (std::int32_t rows : {1, 3, 8, 20}) {
    for (std::int32_t cols : {1, 7, 8, 9, 21}) {
      std::set<std::pair<std::int32_t, std::int32_t>> seen;
      for (std::int32_t i = 0; i < rows * cols; ++i) {
        const TilePlace place = place_of_tile(i, rows, cols);
        ASSERT_TRUE(place.row >= 0 && place.row < rows && place.col >= 0 && place.col < cols);
        seen.insert({place.row, place.col});
      }
      EXPECT_EQ(seen.size(), static_cast<std::size_t>(rows * cols));
    }
  }
}

// Persistent blocks take every item once; no two of them differ by more than the longest item
// where items fall by one.
TEST(Schedule, TakesEveryItemOnce) {
  for (std::int32_t blocks : {1, 3, 132}) {
    for (std::int32_t items : {0, 1, 131, 132, 1000}) {
      std::vector<std::int32_t> taken(static_cast<std::size_t>(items));
      std::vector<std::int64_t> load(static_cast<std::size_t>(blocks));
      for (std::int32_t block = 0; block < blocks; ++block) {
        for (std::int32_t round = 0;; ++round) {
          const std::int32_t i = item_of_round(round, block, blocks);
          if (i >= items) break;
          ++taken[static_cast<std::size_t>(i)];
          load[static_cast<std::size_t>(block)] += items - i;
        }
      }
      EXPECT_EQ(taken, std::vector<std::int32_t>(static_cast<std::size_t>(items), 1));
      const auto [least, most] = std::minmax_element(load.begin(), load.end());
      EXPECT_LE(*most - *least, items) << blocks << " blocks";
    }
  }
}

}  // namespace
}  // namespace dropgemm::cuda
