// Mask generation (dropgemm/mask.h) into words that the caller allocates, and masks as bytes.
#include <algorithm>
#include <cstring>

#include "array.h"
#include "module.h"

namespace dropgemm::python {

namespace {

void bernoulli(nb::handle bits, std::int64_t rows, std::int64_t cols, std::int64_t tile_rows,
               std::int64_t tile_cols, double p, nb::handle seed, std::int64_t site,
               nb::handle step, std::int64_t call, std::int64_t first_row, nb::handle stream) {
  const MaskTarget target = to_mask_target(bits, rows, cols, tile_rows, tile_cols);
  const Step at = to_step("step", step);
  const Seed key = to_seed("seed", seed);
  const Context context = to_context(stream);
  const BernoulliMaskArgs args{target.view, p,    key.value, site,
                               at.ref,      call, first_row, key.device};
  Status status;
  {
    nb::gil_scoped_release released;
    status = bernoulli_mask(context, args);
  }
  raise_if_error(status);
}

void gyro(nb::handle bits, std::int64_t rows, std::int64_t cols, std::int64_t tile_rows,
          std::int64_t tile_cols, double p, bool exact, std::uint64_t seed, std::int64_t site,
          nb::handle step, std::int64_t total_steps, std::int64_t subnets, std::int64_t coscheduled,
          std::int64_t group_rows, bool random_order, std::int64_t rows_per_sample,
          std::int64_t first, std::int64_t batch, nb::handle stream) {
  const MaskTarget target = to_mask_target(bits, rows, cols, tile_rows, tile_cols);
  const Step at = to_step("step", step);
  const Context context = to_context(stream);
  GyroMaskArgs args;
  args.mask = target.view;
  args.p = p;
  args.schedule = {total_steps,
                   subnets,
                   coscheduled,
                   group_rows,
                   random_order ? SubnetOrder::kRandom : SubnetOrder::kConsecutive,
                   seed};
  args.rows_per_sample = rows_per_sample;
  args.site = site;
  args.step = at.ref;
  args.seed = seed;
  args.draw = exact ? Draw::kExact : Draw::kBernoulli;
  args.part = {first, batch};
  Status status;
  {
    nb::gil_scoped_release released;
    status = gyro_mask(context, args);
  }
  raise_if_error(status);
}

// One byte an element: what a mask means, written out.
void expand(const TileMaskView& mask, std::uint8_t* out) {
  for (std::int64_t row = 0; row < mask.rows; row += mask.tile_rows) {
    std::uint8_t* first = out + row * mask.cols;
    for (std::int64_t col = 0; col < mask.cols; col += mask.tile_cols) {
      const std::int64_t width = std::min(mask.tile_cols, mask.cols - col);
      std::memset(first + col, element_kept(mask, row, col) ? 1 : 0,
                  static_cast<std::size_t>(width));
    }
    const std::int64_t height = std::min(mask.tile_rows, mask.rows - row);
    for (std::int64_t i = 1; i < height; ++i) {
      std::memcpy(first + i * mask.cols, first, static_cast<std::size_t>(mask.cols));
    }
  }
}

void to_dense(nb::handle mask, nb::handle out) {
  const std::optional<Mask> source = to_mask("mask", mask);
  if (!source) raise_if_error(Status::invalid_type("mask", "a mask", "None"));
  raise_if_error(check_tile_mask("mask", source->view));
  const Bytes bytes = to_bytes("out", out, source->view.rows * source->view.cols);
  nb::gil_scoped_release released;
  expand(source->view, bytes.data);
}

}  // namespace

void bind_mask(nb::module_& module) {
  module.def("bernoulli_mask", bernoulli, nb::arg("bits"), nb::arg("rows"), nb::arg("cols"),
             nb::arg("tile_rows"), nb::arg("tile_cols"), nb::arg("p"), nb::arg("seed"),
             nb::arg("site"), nb::arg("step"), nb::arg("call"), nb::arg("first_row"),
             nb::arg("stream") = nb::none(),
             "Fills bits (an address or an array of uint32) with independent draws. step is an\n"
             "int, an int64 array [] or a tuple (address,); seed an int or a tuple (address,).\n"
             "stream is as in matmul.");
  module.def("gyro_mask", gyro, nb::arg("bits"), nb::arg("rows"), nb::arg("cols"),
             nb::arg("tile_rows"), nb::arg("tile_cols"), nb::arg("p"), nb::arg("exact"),
             nb::arg("seed"), nb::arg("site"), nb::arg("step"), nb::arg("total_steps"),
             nb::arg("subnets"), nb::arg("coscheduled"), nb::arg("group_rows"),
             nb::arg("random_order"), nb::arg("rows_per_sample"), nb::arg("first"),
             nb::arg("batch"), nb::arg("stream") = nb::none(),
             "Fills bits with the subnets' masks, one row group after the other. group_rows is\n"
             "the schedule's tile_rows in samples, 0 for element-wise gyro. The mask's samples\n"
             "begin at sample `first` of a batch of `batch`, 0 for those of the mask.");
  module.def("mask_to_dense", to_dense, nb::arg("mask").none(), nb::arg("out"),
             "Writes a mask as one byte an element, 1 = kept, to out (an address or a\n"
             "contiguous array).");
  module.def("keep_count", keep_count, nb::arg("p"), nb::arg("tiles"),
             "How many of a row's tiles an exact draw keeps.");
}

}  // namespace dropgemm::python
