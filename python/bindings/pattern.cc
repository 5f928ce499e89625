// Row and tile patterns (dropgemm/pattern.h) into words that the caller allocates.
#include "dropgemm/pattern.h"

#include <utility>
#include <vector>

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include "array.h"
#include "module.h"

namespace dropgemm::python {

namespace {

PatternKind to_kind(bool tiles) { return tiles ? PatternKind::kTile : PatternKind::kRow; }

void mask(nb::handle bits, std::int64_t rows, std::int64_t cols, std::int64_t tile_rows,
          std::int64_t tile_cols, bool tiles, std::int64_t skew, bool linear, std::int64_t period,
          std::int64_t offset, nb::handle thresholds, std::uint64_t seed, std::int64_t site,
          nb::handle step, nb::handle call, nb::handle scale, nb::handle stream) {
  const MaskTarget target = to_mask_target(bits, rows, cols, tile_rows, tile_cols);
  const Thresholds distribution = to_thresholds("thresholds", thresholds);
  const Step at = to_step("step", step), pass = to_step("call", call);
  const FloatScalar factor = to_float_scalar("scale", scale, Access::kWrite);
  const Context context = to_context(stream);
  const PatternDraw draw{distribution.data, distribution.size, seed, site, at.ref,
                         pass.ref.value,    pass.ref.device};
  PatternMaskArgs args;
  args.mask = target.view;
  args.kind = to_kind(tiles);
  args.pattern = {period, offset};
  args.skew = skew;
  args.linear_skew = linear;
  args.draw = thresholds.is_none() ? nullptr : &draw;
  args.scale = factor.data;
  Status status;
  {
    nb::gil_scoped_release released;
    status = pattern_mask(context, args);
  }
  raise_if_error(status);
}

std::vector<std::uint64_t> thresholds_of(const std::vector<double>& probabilities) {
  std::vector<std::uint64_t> thresholds(probabilities.size());
  raise_if_error(pattern_thresholds(
      probabilities.data(), static_cast<std::int64_t>(probabilities.size()), thresholds.data()));
  return thresholds;
}

std::pair<std::int64_t, std::int64_t> sample(nb::handle thresholds, std::uint64_t seed,
                                             std::int64_t site, nb::handle step,
                                             std::int64_t call) {
  const Thresholds distribution = to_thresholds("thresholds", thresholds);
  const Step at = to_step("step", step);
  Pattern pattern;
  raise_if_error(
      sample_pattern({distribution.data, distribution.size, seed, site, at.ref, call}, &pattern));
  return {pattern.period, pattern.offset};
}

}  // namespace

void bind_pattern(nb::module_& module) {
  module.def("pattern_mask", mask, nb::arg("bits"), nb::arg("rows"), nb::arg("cols"),
             nb::arg("tile_rows"), nb::arg("tile_cols"), nb::arg("tiles"), nb::arg("skew"),
             nb::arg("linear"), nb::arg("period"), nb::arg("offset"), nb::arg("thresholds").none(),
             nb::arg("seed"), nb::arg("site"), nb::arg("step"), nb::arg("call"),
             nb::arg("scale").none(), nb::arg("stream") = nb::none(),
             "Fills bits (an address or an array of uint32) with a row pattern, or with tiles a\n"
             "tile pattern: period and offset, or a draw from thresholds (an array of uint64 or\n"
             "a tuple (address, size)) for a step and a call, which are ints, int64 arrays [] or\n"
             "tuples (address,). scale (an address or a float32 array []) receives the period.");
  module.def(
      "check_pattern",
      [](bool tiles, std::int64_t skew, bool linear, std::int64_t period, std::int64_t offset) {
        raise_if_error(check_pattern(to_kind(tiles), {period, offset}, skew, linear));
      },
      nb::arg("tiles"), nb::arg("skew"), nb::arg("linear"), nb::arg("period"), nb::arg("offset"),
      "Raises ValueError for a pattern that no mask can have.");
  module.def("pattern_thresholds", thresholds_of, nb::arg("probabilities"),
             "floor(2^32 * P(period <= i + 1)) for each i.");
  module.def("sample_pattern", sample, nb::arg("thresholds"), nb::arg("seed"), nb::arg("site"),
             nb::arg("step"), nb::arg("call"),
             "The (period, offset) that pattern_mask draws from the same thresholds.");
}

}  // namespace dropgemm::python
