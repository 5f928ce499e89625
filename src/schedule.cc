// Gyro Dropout's schedule, the host's side: checks, the ids of a batch, and how many subnets a
// run reaches. The arithmetic that devices share is in the header.
#include "dropgemm/schedule.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "cpu/mask.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {
namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 31;

Status check_count(const char* name, std::int64_t value, std::int64_t least) {
  if (value >= least && value < kLimit) return {};
  return Status::invalid(name, "a number in [" + std::to_string(least) + ", 2^31)",
                         std::to_string(value));
}

Status check_batch(std::int64_t batch) {
  if (batch >= 0 && batch <= kMaxBatch) return {};
  return Status::invalid("batch", "a number of samples in [0, 2^32)", std::to_string(batch));
}

// How many of a set's subnets `steps` successive steps reach. Each step deals the next `groups`
// slots in turn, or all of them where there are as many groups as subnets.
std::int64_t reached(std::int64_t steps, std::int64_t groups, std::int64_t size) {
  return groups >= size ? (steps > 0 ? size : 0) : std::min(steps * groups, size);
}

}  // namespace

Status check_schedule(const GyroSchedule& schedule) {
  DROPGEMM_RETURN_IF_ERROR(check_count("total_steps", schedule.total_steps, 1));
  DROPGEMM_RETURN_IF_ERROR(check_count("subnets", schedule.subnets, 1));
  DROPGEMM_RETURN_IF_ERROR(check_count("coscheduled", schedule.coscheduled, 1));
  DROPGEMM_RETURN_IF_ERROR(check_count("tile_rows", schedule.tile_rows, 0));
  if (schedule.order != SubnetOrder::kConsecutive && schedule.order != SubnetOrder::kRandom) {
    return Status::invalid("order", "consecutive or random",
                           "code " + std::to_string(static_cast<int>(schedule.order)));
  }
  return {};
}

Status subnet_ids(const GyroSchedule& schedule, std::int64_t step, std::int64_t batch,
                  std::int64_t* ids) {
  DROPGEMM_RETURN_IF_ERROR(check_schedule(schedule));
  if (step < 0 || step > kMaxStep) {
    return Status::invalid("step", "a step in [0, 2^32)", std::to_string(step));
  }
  DROPGEMM_RETURN_IF_ERROR(check_batch(batch));
  const SubnetSet set = subnet_set(schedule, step, batch);
  if (set.groups == 0) return {};
  if (ids == nullptr) {
    return Status::invalid("ids", "room for " + std::to_string(set.groups) + " ids",
                           "a null pointer");
  }
  std::vector<std::int64_t> drawn;
  if (schedule.order == SubnetOrder::kRandom) {
    drawn.resize(static_cast<std::size_t>(set.size));
    cpu::random_subnets(schedule.seed, step, schedule.subnets, set.size, drawn.data());
  }
  for (std::int64_t group = 0; group < set.groups; ++group) {
    const std::int64_t slot = set.slot(group);
    ids[group] = drawn.empty() ? set.first + slot : drawn[static_cast<std::size_t>(slot)];
  }
  return {};
}

Status subnets_used(const GyroSchedule& schedule, std::int64_t batch, std::int64_t* used) {
  DROPGEMM_RETURN_IF_ERROR(check_schedule(schedule));
  DROPGEMM_RETURN_IF_ERROR(check_batch(batch));
  const std::int64_t n = schedule.total_steps, all = schedule.subnets, tau = schedule.coscheduled;
  *used = 0;
  if (batch == 0) return {};
  const auto groups_of = [&](std::int64_t size) {
    const std::int64_t rows = schedule.tile_rows > 0 ? schedule.tile_rows : ceil_div(batch, size);
    return ceil_div(batch, rows);
  };
  if (schedule.order == SubnetOrder::kRandom) {
    // Slot j of T ids in ascending order holds any id but the j lowest and the T - 1 - j highest,
    // and the first slots are dealt first.
    const std::int64_t size = std::min(tau, all);
    *used = all - size + reached(n, groups_of(size), size);
    return {};
  }
  // Full sets begin at ceil(s*N*T/S), so each lasts floor(N*T/S) steps or one more; together they
  // last until the first step of the partial set, which has the rest.
  const std::int64_t full_sets = all / tau;
  const std::int64_t full_steps = ceil_div(full_sets * tau * n, all);
  if (full_sets > 0) {
    const std::int64_t shorter = n * tau / all;
    const std::int64_t longer_sets = full_steps - full_sets * shorter;
    const std::int64_t groups = groups_of(tau);
    *used = longer_sets * reached(shorter + 1, groups, tau) +
            (full_sets - longer_sets) * reached(shorter, groups, tau);
  }
  const std::int64_t rest = all - full_sets * tau;
  if (rest > 0) *used += reached(n - full_steps, groups_of(rest), rest);
  return {};
}

}  // namespace dropgemm
