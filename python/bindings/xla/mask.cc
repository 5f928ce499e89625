// Mask generation (dropgemm/mask.h, dropgemm/pattern.h) from a step that lies in a buffer.
#include "dropgemm/mask.h"

#include "buffers.h"
#include "dropgemm/pattern.h"
#include "targets.h"

namespace dropgemm::python {

// Layouts are [rows, cols, tile rows, tile cols]; seeds are the int64 of the same bits.

struct BernoulliAttrs {
  Layout layout;
  double p = 0.5;
  std::int64_t seed = 0, site = 0, call = 0, first_row = 0;
};

struct GyroAttrs {
  Layout layout;
  double p = 0.5;
  bool exact = false;
  std::int64_t seed = 0, site = 0, total_steps = 0, subnets = 0, coscheduled = 0, group_rows = 0;
  bool random_order = false;
  std::int64_t rows_per_sample = 1, first = 0, batch = 0;
};

struct PatternAttrs {
  Layout layout;
  bool tiles = false;
  std::int64_t skew = 1;
  bool linear = false;
  ffi::Span<const std::int64_t> thresholds;
  std::int64_t seed = 0, site = 0, call = 0;
};

namespace {

Status draw(const ffi::AnyBuffer& step, const BernoulliAttrs& attrs, const ffi::AnyBuffer& bits) {
  BernoulliMaskArgs args;
  std::int64_t at = 0;
  DROPGEMM_RETURN_IF_ERROR(to_step(step, &at));
  DROPGEMM_RETURN_IF_ERROR(to_mask_target(bits, attrs.layout, &args.mask));
  args.p = attrs.p;
  args.seed = static_cast<std::uint64_t>(attrs.seed);
  args.site = attrs.site;
  args.step.device = &at;  // clamped, not validated
  args.call = attrs.call;
  args.first_row = attrs.first_row;
  return bernoulli_mask(Context{}, args);
}

Status draw(const ffi::AnyBuffer& step, const GyroAttrs& attrs, const ffi::AnyBuffer& bits) {
  GyroMaskArgs args;
  std::int64_t at = 0;
  DROPGEMM_RETURN_IF_ERROR(to_step(step, &at));
  DROPGEMM_RETURN_IF_ERROR(to_mask_target(bits, attrs.layout, &args.mask));
  args.p = attrs.p;
  args.seed = static_cast<std::uint64_t>(attrs.seed);
  args.schedule = {attrs.total_steps,
                   attrs.subnets,
                   attrs.coscheduled,
                   attrs.group_rows,
                   attrs.random_order ? SubnetOrder::kRandom : SubnetOrder::kConsecutive,
                   args.seed};
  args.rows_per_sample = attrs.rows_per_sample;
  args.site = attrs.site;
  args.step.device = &at;
  args.draw = attrs.exact ? Draw::kExact : Draw::kBernoulli;
  args.part = {attrs.first, attrs.batch};
  return gyro_mask(Context{}, args);
}

Status draw(const ffi::AnyBuffer& step, const PatternAttrs& attrs, const ffi::AnyBuffer& bits,
            const ffi::AnyBuffer& scale) {
  PatternMaskArgs args;
  std::int64_t at = 0;
  DROPGEMM_RETURN_IF_ERROR(to_step(step, &at));
  DROPGEMM_RETURN_IF_ERROR(to_mask_target(bits, attrs.layout, &args.mask));
  DROPGEMM_RETURN_IF_ERROR(to_float_scalar("scale", scale, &args.scale));
  PatternDraw drawn;
  drawn.thresholds = reinterpret_cast<const std::uint64_t*>(attrs.thresholds.begin());
  drawn.periods = static_cast<std::int64_t>(attrs.thresholds.size());
  drawn.seed = static_cast<std::uint64_t>(attrs.seed);
  drawn.site = attrs.site;
  drawn.step.device = &at;
  drawn.call = attrs.call;
  args.kind = attrs.tiles ? PatternKind::kTile : PatternKind::kRow;
  args.skew = attrs.skew;
  args.linear_skew = attrs.linear;
  args.draw = &drawn;
  return pattern_mask(Context{}, args);
}

template <class Attrs>
ffi::Error mask(ffi::AnyBuffer step, Attrs attrs, Result bits) {
  return to_error(draw(step, attrs, *bits));
}

ffi::Error scaled_mask(ffi::AnyBuffer step, PatternAttrs attrs, Result bits, Result scale) {
  return to_error(draw(step, attrs, *bits, *scale));
}

}  // namespace

}  // namespace dropgemm::python

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(dropgemm::python::BernoulliAttrs,
                                      xla::ffi::StructMember<dropgemm::python::Layout>("layout"),
                                      xla::ffi::StructMember<double>("p"),
                                      xla::ffi::StructMember<std::int64_t>("seed"),
                                      xla::ffi::StructMember<std::int64_t>("site"),
                                      xla::ffi::StructMember<std::int64_t>("call"),
                                      xla::ffi::StructMember<std::int64_t>("first_row"));

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(
    dropgemm::python::GyroAttrs, xla::ffi::StructMember<dropgemm::python::Layout>("layout"),
    xla::ffi::StructMember<double>("p"), xla::ffi::StructMember<bool>("exact"),
    xla::ffi::StructMember<std::int64_t>("seed"), xla::ffi::StructMember<std::int64_t>("site"),
    xla::ffi::StructMember<std::int64_t>("total_steps"),
    xla::ffi::StructMember<std::int64_t>("subnets"),
    xla::ffi::StructMember<std::int64_t>("coscheduled"),
    xla::ffi::StructMember<std::int64_t>("group_rows"),
    xla::ffi::StructMember<bool>("random_order"),
    xla::ffi::StructMember<std::int64_t>("rows_per_sample"),
    xla::ffi::StructMember<std::int64_t>("first"), xla::ffi::StructMember<std::int64_t>("batch"));

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(
    dropgemm::python::PatternAttrs, xla::ffi::StructMember<dropgemm::python::Layout>("layout"),
    xla::ffi::StructMember<bool>("tiles"), xla::ffi::StructMember<std::int64_t>("skew"),
    xla::ffi::StructMember<bool>("linear"),
    xla::ffi::StructMember<dropgemm::python::Layout>("thresholds"),
    xla::ffi::StructMember<std::int64_t>("seed"), xla::ffi::StructMember<std::int64_t>("site"),
    xla::ffi::StructMember<std::int64_t>("call"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(dropgemm_bernoulli_mask,
                              dropgemm::python::mask<dropgemm::python::BernoulliAttrs>,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::AnyBuffer>()  // step
                                  .Attrs<dropgemm::python::BernoulliAttrs>()
                                  .Ret<xla::ffi::AnyBuffer>());  // bits

XLA_FFI_DEFINE_HANDLER_SYMBOL(dropgemm_gyro_mask,
                              dropgemm::python::mask<dropgemm::python::GyroAttrs>,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::AnyBuffer>()  // step
                                  .Attrs<dropgemm::python::GyroAttrs>()
                                  .Ret<xla::ffi::AnyBuffer>());  // bits

XLA_FFI_DEFINE_HANDLER_SYMBOL(dropgemm_pattern_mask, dropgemm::python::scaled_mask,
                              xla::ffi::Ffi::Bind()
                                  .Arg<xla::ffi::AnyBuffer>()  // step
                                  .Attrs<dropgemm::python::PatternAttrs>()
                                  .Ret<xla::ffi::AnyBuffer>()    // bits
                                  .Ret<xla::ffi::AnyBuffer>());  // scale
