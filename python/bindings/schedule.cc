// The schedule's arithmetic (dropgemm/schedule.h) for Python.
#include <vector>

#include <nanobind/stl/vector.h>

#include "array.h"
#include "dropgemm/schedule.h"
#include "module.h"

namespace dropgemm::python {

namespace {

using Ids = std::vector<std::int64_t>;

}  // namespace

void bind_schedule(nb::module_& module) {
  nb::class_<GyroSchedule>(module, "GyroSchedule",
                           "Which subnets each row group of a batch trains, by the step.")
      .def(
          "__init__",
          [](GyroSchedule* self, std::int64_t total_steps, std::int64_t subnets,
             std::int64_t coscheduled, std::int64_t tile_rows, bool random_order,
             std::uint64_t seed) {
            const GyroSchedule schedule{
                total_steps,
                subnets,
                coscheduled,
                tile_rows,
                random_order ? SubnetOrder::kRandom : SubnetOrder::kConsecutive,
                seed};
            raise_if_error(check_schedule(schedule));
            new (self) GyroSchedule(schedule);
          },
          nb::arg("total_steps"), nb::arg("subnets"), nb::arg("coscheduled"), nb::arg("tile_rows"),
          nb::arg("random_order"), nb::arg("seed"))
      .def_prop_ro(
          "fixed_groups", [](const GyroSchedule& self) { return has_fixed_groups(self); },
          "True where the rows of a group do not depend on the step.")
      .def(
          "group_rows",
          [](const GyroSchedule& self, std::int64_t step, std::int64_t batch) {
            return subnet_set(self, step, batch).group_rows;
          },
          nb::arg("step"), nb::arg("batch"), "R, the samples of a row group at a step.")
      .def(
          "ids",
          [](const GyroSchedule& self, std::int64_t step, std::int64_t batch) {
            Ids ids(batch < 0 ? 0 : static_cast<std::size_t>(subnet_set(self, step, batch).groups));
            raise_if_error(subnet_ids(self, step, batch, ids.data()));
            return ids;
          },
          nb::arg("step"), nb::arg("batch"), "The subnet of each row group.")
      .def(
          "used",
          [](const GyroSchedule& self, std::int64_t batch) {
            std::int64_t used = 0;
            raise_if_error(subnets_used(self, batch, &used));
            return used;
          },
          nb::arg("batch"), "How many subnets a whole run at this batch uses.");
}

}  // namespace dropgemm::python
