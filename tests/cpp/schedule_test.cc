// Gyro Dropout's schedule against an independent transcription of its formulas in 128 bits, and
// the properties that the paper asks of it (Lee et al., 2022, sections 4.1, 4.2, 5.3).
#include "dropgemm/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace dropgemm {
namespace {

__extension__ typedef __int128 Wide;

GyroSchedule make(std::int64_t total_steps, std::int64_t subnets, std::int64_t coscheduled,
                  std::int64_t tile_rows = 0) {
  GyroSchedule schedule;
  schedule.total_steps = total_steps;
  schedule.subnets = subnets;
  schedule.coscheduled = coscheduled;
  schedule.tile_rows = tile_rows;
  return schedule;
}

std::vector<std::int64_t> ids_of(const GyroSchedule& schedule, std::int64_t step,
                                 std::int64_t batch) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(subnet_set(schedule, step, batch).groups));
  const Status status = subnet_ids(schedule, step, batch, ids.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return ids;
}

Wide ceil_of(Wide x, Wide y) { return (x + y - 1) / y; }

// The formulas of the design, written down once more.
std::vector<std::int64_t> transcription(const GyroSchedule& g, std::int64_t step,
                                        std::int64_t batch) {
  const Wide n = g.total_steps, sigma = g.subnets, tau = g.coscheduled, t = step;
  const Wide s = std::min(t * sigma / (n * tau), ceil_of(sigma, tau) - 1);
  const Wide tau_s = std::min(tau, sigma - s * tau);
  const Wide rows = g.tile_rows > 0 ? Wide{g.tile_rows} : ceil_of(batch, tau_s);
  const Wide groups = rows == 0 ? Wide{0} : ceil_of(batch, rows);
  const Wide u = t - ceil_of(s * n * tau, sigma);
  std::vector<std::int64_t> ids;
  for (Wide j = 0; j < groups; ++j) {
    const Wide slot = groups >= tau_s ? (j * tau_s / groups + u) % tau_s : (u * groups + j) % tau_s;
    ids.push_back(static_cast<std::int64_t>(s * tau + slot));
  }
  return ids;
}

std::string describe(const GyroSchedule& g, std::int64_t step, std::int64_t batch) {
  return "N=" + std::to_string(g.total_steps) + " S=" + std::to_string(g.subnets) +
         " T=" + std::to_string(g.coscheduled) + " R=" + std::to_string(g.tile_rows) +
         " t=" + std::to_string(step) + " B=" + std::to_string(batch);
}

// N*T/S whole, not whole and below 1; S a multiple of T and not; T above S; batches smaller than
// T, ragged, with fewer and with more groups than subnets.
struct Case {
  GyroSchedule schedule;
  std::int64_t batch;
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int64_t n : {1, 7, 40, 128, 1000}) {
    for (const std::int64_t sigma : {1, 2, 5, 8, 33, 64}) {
      for (const std::int64_t tau : {1, 2, 3, 8, 100}) {
        for (const std::int64_t rows : {0, 1, 4, 128}) {
          for (const std::int64_t batch : {0, 1, 3, 8, 9, 31, 256}) {
            all.push_back({make(n, sigma, tau, rows), batch});
          }
        }
      }
    }
  }
  return all;
}

TEST(Schedule, FollowsTheFormulas) {
  for (const Case& c : cases()) {
    for (std::int64_t t = 0; t < c.schedule.total_steps + 12; t += 1 + t / 60) {
      ASSERT_EQ(ids_of(c.schedule, t, c.batch), transcription(c.schedule, t, c.batch))
          << describe(c.schedule, t, c.batch);
    }
  }
}

TEST(Schedule, FollowsTheFormulasAtTheEndsOfTheirRange) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{1000003}, kMost}) {
    for (const std::int64_t sigma : {std::int64_t{1}, std::int64_t{1024}, kMost}) {
      for (const std::int64_t tau : {std::int64_t{1}, std::int64_t{8}, kMost}) {
        for (const std::int64_t t : {std::int64_t{0}, n / 2, n - 1, n, kMaxStep}) {
          const GyroSchedule schedule = make(n, sigma, tau, 1 << 29);
          for (const std::int64_t batch : {std::int64_t{1}, std::int64_t{64}, kMaxBatch}) {
            ASSERT_EQ(ids_of(schedule, t, batch), transcription(schedule, t, batch))
                << describe(schedule, t, batch);
          }
        }
      }
    }
  }
}

TEST(Schedule, ThePapersSettingMakesSlabs) {
  // B = 8192, tau = 8: eight slabs of 1024 rows, that turn by one each step.
  const GyroSchedule schedule = make(128000, 1024, 8, 128);
  const auto first = ids_of(schedule, 0, 8192);
  ASSERT_EQ(first.size(), 64U);
  for (std::size_t j = 0; j < 64; ++j) EXPECT_EQ(first[j], static_cast<std::int64_t>(j / 8));
  const auto second = ids_of(schedule, 1, 8192);
  for (std::size_t j = 0; j < 64; ++j) {
    EXPECT_EQ(second[j], static_cast<std::int64_t>(j / 8 + 1) % 8);
  }
  // A set serves N*T/S = 1000 steps.
  EXPECT_EQ(ids_of(schedule, 999, 8192)[0] / 8, 0);
  EXPECT_EQ(ids_of(schedule, 1000, 8192)[0] / 8, 1);
}

TEST(Schedule, FewGroupsSpreadTheSetOverBatches) {
  const GyroSchedule schedule = make(128000, 1024, 8, 128);
  std::vector<std::int64_t> seen;
  for (std::int64_t t = 0; t < 4; ++t) {
    for (const std::int64_t id : ids_of(schedule, t, 256)) seen.push_back(id);
  }
  EXPECT_EQ(seen, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Schedule, ElementWiseGroupsFollowTheSetsSize) {
  const GyroSchedule schedule = make(10, 10, 8);  // sets of 8 and of 2
  EXPECT_EQ(subnet_set(schedule, 0, 32).group_rows, 4);
  EXPECT_EQ(subnet_set(schedule, 9, 32).size, 2);
  EXPECT_EQ(subnet_set(schedule, 9, 32).group_rows, 16);
  EXPECT_FALSE(has_fixed_groups(schedule));
  for (const Case& c : cases()) {
    std::set<std::int64_t> rows;
    for (std::int64_t t = 0; t < c.schedule.total_steps + 2; ++t) {
      rows.insert(subnet_set(c.schedule, t, c.batch).group_rows);
    }
    if (has_fixed_groups(c.schedule)) {
      EXPECT_EQ(rows.size(), 1U) << describe(c.schedule, 0, c.batch);
    }
  }
}

TEST(Schedule, StepsPastTheEndKeepTheLastSet) {
  const GyroSchedule schedule = make(100, 20, 8);  // the last set holds 16..19
  EXPECT_EQ(subnet_set(schedule, 99, 8).first, 16);
  for (const std::int64_t t : {std::int64_t{100}, std::int64_t{1000000}, kMaxStep}) {
    const SubnetSet set = subnet_set(schedule, t, 8);
    EXPECT_EQ(set.first, 16);
    EXPECT_EQ(set.size, 4);
    for (const std::int64_t id : ids_of(schedule, t, 8)) {
      EXPECT_GE(id, 16);
      EXPECT_LT(id, 20);
    }
  }
  // Values that live on a device are clamped.
  EXPECT_EQ(subnet_set(schedule, std::numeric_limits<std::int64_t>::min(), 8).first, 0);
  EXPECT_EQ(subnet_set(schedule, std::numeric_limits<std::int64_t>::max(), 8).age,
            subnet_set(schedule, kMaxStep, 8).age);
}

TEST(Schedule, SubnetsUsedMatchesARun) {
  int partial = 0;
  for (const Case& c : cases()) {
    std::set<std::int64_t> seen;
    bool all_sets_covered = c.batch > 0;
    for (std::int64_t t = 0; t < c.schedule.total_steps; ++t) {
      const auto ids = transcription(c.schedule, t, c.batch);
      seen.insert(ids.begin(), ids.end());
    }
    // The rule that the header states, set by set.
    const Wide n = c.schedule.total_steps, sigma = c.schedule.subnets, tau = c.schedule.coscheduled;
    for (Wide s = 0; s < ceil_of(sigma, tau) && all_sets_covered; ++s) {
      const Wide begin = ceil_of(s * n * tau, sigma);
      const Wide end = std::min(n, ceil_of((s + 1) * n * tau, sigma));
      const Wide size = std::min(tau, sigma - s * tau);
      const Wide rows =
          c.schedule.tile_rows > 0 ? Wide{c.schedule.tile_rows} : ceil_of(c.batch, size);
      all_sets_covered = (end - begin) * std::min(ceil_of(c.batch, rows), size) >= size;
    }
    std::int64_t used = -1;
    ASSERT_TRUE(subnets_used(c.schedule, c.batch, &used).ok());
    ASSERT_EQ(used, static_cast<std::int64_t>(seen.size())) << describe(c.schedule, 0, c.batch);
    ASSERT_EQ(used == c.schedule.subnets, all_sets_covered) << describe(c.schedule, 0, c.batch);
    partial += used < c.schedule.subnets ? 1 : 0;
  }
  EXPECT_GT(partial, 100);
}

TEST(Schedule, RandomOrderDrawsWithoutReplacement) {
  GyroSchedule schedule = make(100, 40, 8, 4);
  schedule.order = SubnetOrder::kRandom;
  schedule.seed = 20220829;
  std::set<std::vector<std::int64_t>> sets;
  std::set<std::int64_t> seen;
  for (std::int64_t t = 0; t < 200; ++t) {
    const auto ids = ids_of(schedule, t, 64);  // 16 groups of 4: two for each of 8 subnets
    ASSERT_EQ(ids.size(), 16U);
    // The k smallest draws, found the slow way.
    const DrawStream stream = {schedule.seed, Domain::kSubnetIds, 0, static_cast<std::uint32_t>(t),
                               0};
    std::vector<std::pair<std::uint32_t, std::int64_t>> draws;
    for (std::int64_t i = 0; i < 40; ++i) {
      draws.emplace_back(stream.draw(static_cast<std::uint64_t>(i)), i);
    }
    std::sort(draws.begin(), draws.end());
    std::set<std::int64_t> expected;
    for (std::size_t i = 0; i < 8; ++i) expected.insert(draws[i].second);
    const std::set<std::int64_t> got(ids.begin(), ids.end());
    ASSERT_EQ(got, expected) << "step " << t;
    // Slots are ascending ids, turned by the step.
    const std::vector<std::int64_t> ascending(expected.begin(), expected.end());
    for (std::size_t j = 0; j < 16; ++j) {
      ASSERT_EQ(ids[j], ascending[(j / 2 + static_cast<std::size_t>(t)) % 8]);
    }
    sets.insert(ascending);
    seen.insert(ids.begin(), ids.end());
  }
  EXPECT_GT(sets.size(), 190U);  // afresh each step
  EXPECT_EQ(seen.size(), 40U);
  EXPECT_NE(ids_of(schedule, 3, 64), [&] {
    GyroSchedule other = schedule;
    other.seed += 1;
    return ids_of(other, 3, 64);
  }());
}

// With one group a step, the lowest of the drawn ids must not be all that is ever trained. Over
// n steps each id is trained with chance 1/S: a chi-square of S - 1 = 15 degrees has mean 15 and
// variance 30, and exceeds 15 + 6 * sqrt(30) < 48 with chance below 3e-5.
TEST(Schedule, RandomOrderFavoursNoIdWhereGroupsAreFew) {
  GyroSchedule schedule = make(16000, 16, 8, 128);
  schedule.order = SubnetOrder::kRandom;
  schedule.seed = 5;
  std::vector<double> count(16);
  for (std::int64_t t = 0; t < 16000; ++t) {
    const auto ids = ids_of(schedule, t, 128);
    ASSERT_EQ(ids.size(), 1U);
    count[static_cast<std::size_t>(ids[0])] += 1;
  }
  double chi_square = 0;
  for (const double c : count) chi_square += (c - 1000) * (c - 1000) / 1000;
  EXPECT_LT(chi_square, 48);
}

TEST(Schedule, RandomOrderWithAllSubnetsTakesThemAll) {
  GyroSchedule schedule = make(10, 5, 8);
  schedule.order = SubnetOrder::kRandom;
  EXPECT_EQ(ids_of(schedule, 0, 10), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(has_fixed_groups(schedule));
}

TEST(Schedule, RandomOrderUsedCountsWhatMayBeDealt) {
  GyroSchedule schedule = make(1, 6, 3, 4);
  schedule.order = SubnetOrder::kRandom;
  std::int64_t used = -1;
  for (const auto& [steps, batch, expected] :
       {std::array<std::int64_t, 3>{1, 0, 0}, {1, 4, 4}, {1, 8, 5}, {1, 12, 6}, {3, 4, 6}}) {
    schedule.total_steps = steps;
    ASSERT_TRUE(subnets_used(schedule, batch, &used).ok());
    EXPECT_EQ(used, expected) << steps << " steps of " << batch;
    std::set<std::int64_t> seen;  // over many seeds every reachable id turns up
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
      schedule.seed = seed;
      for (std::int64_t t = 0; t < steps; ++t) {
        for (const std::int64_t id : ids_of(schedule, t, batch)) seen.insert(id);
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), expected);
  }
}

TEST(Schedule, ChecksNameTheArgumentAndWhatCame) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  const auto message = [](const GyroSchedule& schedule) {
    const Status status = check_schedule(schedule);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    std::int64_t unused = 0;
    EXPECT_EQ(subnet_ids(schedule, 0, 1, &unused).message(), status.message());
    EXPECT_EQ(subnets_used(schedule, 1, &unused).message(), status.message());
    return status.message();
  };
  EXPECT_TRUE(check_schedule(GyroSchedule()).ok());
  EXPECT_EQ(message(make(0, 8, 8)), "total_steps: expected a number in [1, 2^31), got 0");
  EXPECT_EQ(message(make(kLimit, 8, 8)),
            "total_steps: expected a number in [1, 2^31), got 2147483648");
  EXPECT_EQ(message(make(1, 0, 8)), "subnets: expected a number in [1, 2^31), got 0");
  EXPECT_EQ(message(make(1, 8, -3)), "coscheduled: expected a number in [1, 2^31), got -3");
  EXPECT_EQ(message(make(1, 8, 8, -1)), "tile_rows: expected a number in [0, 2^31), got -1");
  GyroSchedule unknown;
  unknown.order = static_cast<SubnetOrder>(7);
  EXPECT_EQ(message(unknown), "order: expected consecutive or random, got code 7");

  std::int64_t id = 0;
  EXPECT_EQ(subnet_ids(GyroSchedule(), -1, 1, &id).message(),
            "step: expected a step in [0, 2^32), got -1");
  EXPECT_EQ(subnet_ids(GyroSchedule(), kMaxStep + 1, 1, &id).message(),
            "step: expected a step in [0, 2^32), got 4294967296");
  EXPECT_EQ(subnet_ids(GyroSchedule(), 0, -1, &id).message(),
            "batch: expected a number of samples in [0, 2^32), got -1");
  EXPECT_EQ(subnets_used(GyroSchedule(), kMaxBatch + 1, &id).message(),
            "batch: expected a number of samples in [0, 2^32), got 4294967296");
  EXPECT_EQ(subnet_ids(GyroSchedule(), 0, 8, nullptr).message(),
            "ids: expected room for 8 ids, got a null pointer");
  EXPECT_TRUE(subnet_ids(GyroSchedule(), 0, 0, nullptr).ok());
}

}  // namespace
}  // namespace dropgemm
