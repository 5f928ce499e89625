// Gyro Dropout's schedule (Lee et al., MLSys 2022, sections 4.1, 4.2 and 5.3): which of the
// pre-selected subnets each row group of a batch trains, as a pure function of the step.
//
//   N total_steps, S subnets (the paper's Sigma), T coscheduled (tau), batch B, step t
//   set     s   = min(floor(t*S / (N*T)), ceil(S/T) - 1)      T_s = min(T, S - s*T)
//   groups  R   = tile_rows, or ceil(B / T_s) where tile_rows is 0;   G = ceil(B / R)
//   u           = t - ceil(s*N*T / S)                          steps since the set began
//   subnet of group j = s*T + (floor(j*T_s / G) + u) mod T_s   if G >= T_s  (contiguous slabs)
//                     = s*T + (u*G + j) mod T_s                otherwise    (spread over batches)
//
// order = kRandom: the set is T_s of the S subnets drawn for the step, its slots are their ids in
// ascending order, and u = t, so that a batch of fewer groups than subnets favours no id.
//
// All integers. Steps past N keep the last set; a negative step is taken as 0 here (values that
// live on a device are clamped; the front ends refuse a negative step they can see).
#pragma once

#include <cstdint>

#include "dropgemm/philox.h"
#include "dropgemm/status.h"

namespace dropgemm {

constexpr std::int64_t kMaxBatch = (std::int64_t{1} << 32) - 1;  // samples

enum class SubnetOrder : std::int32_t {
  kConsecutive = 0,  // a set of T subnets serves N*T/S consecutive steps
  kRandom = 1,       // T of the S subnets, without replacement, afresh each step (5.3)
};

struct GyroSchedule {
  std::int64_t total_steps = 1;
  std::int64_t subnets = 1024;
  std::int64_t coscheduled = 8;
  std::int64_t tile_rows = 0;  // rows of a group; 0: element-wise gyro, ceil(B / T_s)
  SubnetOrder order = SubnetOrder::kConsecutive;
  std::uint64_t seed = 0;  // used by kRandom alone
};

// Where the samples of a mask lie in the batch of a step. The ranks of data-parallel training have
// a part of it each: groups are those of the whole batch, and each rank computes its rows of it.
struct BatchPart {
  std::int64_t first = 0;  // the sample of the batch that the mask begins with
  std::int64_t batch = 0;  // samples of the whole batch; 0: those of the mask, which is all of it
};

// The samples of the whole batch, for a mask of `samples`.
[[nodiscard]] DROPGEMM_HOST_DEVICE constexpr std::int64_t whole_batch(const BatchPart& part,
                                                                      std::int64_t samples) {
  return part.batch > 0 ? part.batch : samples;
}

// The set that serves `step`, and how its subnets are dealt to the groups of a batch.
struct SubnetSet {
  std::int64_t first = 0;       // id of the set's first subnet; kRandom: none, 0
  std::int64_t size = 1;        // T_s
  std::int64_t age = 0;         // u, in steps
  std::int64_t group_rows = 1;  // R
  std::int64_t groups = 0;      // G

  // The position within the set of group j's subnet.
  [[nodiscard]] DROPGEMM_HOST_DEVICE constexpr std::int64_t slot(std::int64_t group) const {
    return groups >= size ? (group * size / groups + age) % size : (age * groups + group) % size;
  }
};

// Errors: kInvalidArgument for total_steps, subnets or coscheduled outside [1, 2^31),
// tile_rows outside [0, 2^31), an unknown order. coscheduled > subnets is legal: every subnet is
// then trained at once.
[[nodiscard]] Status check_schedule(const GyroSchedule& schedule);

// The set of a step. `schedule` must have passed check_schedule; batch in [0, kMaxBatch].
[[nodiscard]] DROPGEMM_HOST_DEVICE constexpr SubnetSet subnet_set(const GyroSchedule& schedule,
                                                                  std::int64_t step,
                                                                  std::int64_t batch) {
  const std::int64_t n = schedule.total_steps, all = schedule.subnets, tau = schedule.coscheduled;
  const std::int64_t t = step < 0 ? 0 : (step > kMaxStep ? kMaxStep : step);
  SubnetSet set;
  if (schedule.order == SubnetOrder::kRandom) {
    set.size = tau < all ? tau : all;  // first stays 0: the ids are drawn for each step
    set.age = t;
  } else {
    const std::int64_t last = (all + tau - 1) / tau - 1;
    const std::int64_t unbounded = t * all / (n * tau);
    const std::int64_t s = unbounded < last ? unbounded : last;
    set.first = s * tau;
    set.size = tau < all - set.first ? tau : all - set.first;
    // ceil(s*n*tau / all): s*tau < all < 2^31 and n < 2^31, so nothing overflows.
    set.age = t - (set.first * n + all - 1) / all;
  }
  set.group_rows = schedule.tile_rows > 0 ? schedule.tile_rows : (batch + set.size - 1) / set.size;
  if (set.group_rows < 1) set.group_rows = 1;
  set.groups = (batch + set.group_rows - 1) / set.group_rows;
  return set;
}

// True where R does not depend on the step: block-wise, random order, or S a multiple of T.
[[nodiscard]] constexpr bool has_fixed_groups(const GyroSchedule& schedule) {
  return schedule.tile_rows > 0 || schedule.order == SubnetOrder::kRandom ||
         schedule.subnets % schedule.coscheduled == 0 || schedule.subnets < schedule.coscheduled;
}

// Writes the subnet id of each of the G row groups of a batch of `batch` samples to `ids` (room
// for G = subnet_set(...).groups values).
// Errors: those of check_schedule; step outside [0, kMaxStep]; batch outside [0, kMaxBatch].
[[nodiscard]] Status subnet_ids(const GyroSchedule& schedule, std::int64_t step, std::int64_t batch,
                                std::int64_t* ids);

// How many of the S subnets a run of total_steps steps at a constant batch uses. Exact; every
// subnet is used iff (steps of each set) * min(G, T_s) >= T_s. order = kRandom: how many subnets
// may be drawn and dealt, all S iff N * G >= T_s.
// Errors: as subnet_ids.
[[nodiscard]] Status subnets_used(const GyroSchedule& schedule, std::int64_t batch,
                                  std::int64_t* used);

}  // namespace dropgemm
