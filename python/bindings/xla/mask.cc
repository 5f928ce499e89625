// Mask generation (dropgemm/mask.h, dropgemm/pattern.h) from a step that lies in a buffer.
#include "dropgemm/mask.h"

#include "buffers.h"
#include "dropgemm/pattern.h"
#include "place.h"
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
  std::int64_t seed = 0, site = 0, call = 0;
};

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
    xla::ffi::StructMember<bool>("linear"), xla::ffi::StructMember<std::int64_t>("seed"),
    xla::ffi::StructMember<std::int64_t>("site"), xla::ffi::StructMember<std::int64_t>("call"));

namespace dropgemm::python {

namespace {

Status draw(const ffi::AnyBuffer& step, const BernoulliAttrs& attrs, const ffi::AnyBuffer& bits,
            const Context& context) {
  BernoulliMaskArgs args;
  DROPGEMM_RETURN_IF_ERROR(to_step(step, &args.step));
  DROPGEMM_RETURN_IF_ERROR(to_mask_target(bits, attrs.layout, &args.mask));
  args.p = attrs.p;
  args.seed = static_cast<std::uint64_t>(attrs.seed);
  args.site = attrs.site;
  args.call = attrs.call;
  args.first_row = attrs.first_row;
  return bernoulli_mask(context, args);
}

Status draw(const ffi::AnyBuffer& step, const GyroAttrs& attrs, const ffi::AnyBuffer& bits,
            const Context& context) {
  GyroMaskArgs args;
  DROPGEMM_RETURN_IF_ERROR(to_step(step, &args.step));
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
  args.draw = attrs.exact ? Draw::kExact : Draw::kBernoulli;
  args.part = {attrs.first, attrs.batch};
  return gyro_mask(context, args);
}

Status draw(const ffi::AnyBuffer& step, const ffi::AnyBuffer& thresholds, const PatternAttrs& attrs,
            const ffi::AnyBuffer& bits, const ffi::AnyBuffer& scale, const Context& context) {
  PatternMaskArgs args;
  PatternDraw drawn;
  DROPGEMM_RETURN_IF_ERROR(to_step(step, &drawn.step));
  DROPGEMM_RETURN_IF_ERROR(to_thresholds(thresholds, &drawn));
  DROPGEMM_RETURN_IF_ERROR(to_mask_target(bits, attrs.layout, &args.mask));
  DROPGEMM_RETURN_IF_ERROR(to_float_scalar("scale", scale, &args.scale));
  drawn.seed = static_cast<std::uint64_t>(attrs.seed);
  drawn.site = attrs.site;
  drawn.call = attrs.call;
  args.kind = attrs.tiles ? PatternKind::kTile : PatternKind::kRow;
  args.skew = attrs.skew;
  args.linear_skew = attrs.linear;
  args.draw = &drawn;
  return pattern_mask(context, args);
}

template <class Attrs>
ffi::Error mask(ffi::AnyBuffer step, Attrs attrs, Result bits, Place place) {
  Context context;
  Status status = place.enter(&context);
  if (status.ok()) status = draw(step, attrs, *bits, context);
  return to_error(status);
}

ffi::Error scaled_mask(ffi::AnyBuffer step, ffi::AnyBuffer thresholds, PatternAttrs attrs,
                       Result bits, Result scale, Place place) {
  Context context;
  Status status = place.enter(&context);
  if (status.ok()) status = draw(step, thresholds, attrs, *bits, *scale, context);
  return to_error(status);
}

template <class Attrs>
auto binding() {
  return ffi::Ffi::Bind()
      .Arg<ffi::AnyBuffer>()  // step
      .Attrs<Attrs>()
      .template Ret<ffi::AnyBuffer>();  // bits
}

auto scaled_binding() {
  return ffi::Ffi::Bind()
      .Arg<ffi::AnyBuffer>()  // step
      .Arg<ffi::AnyBuffer>()  // thresholds
      .Attrs<PatternAttrs>()
      .Ret<ffi::AnyBuffer>()   // bits
      .Ret<ffi::AnyBuffer>();  // scale
}

XLA_FFI_DEFINE_HANDLER(bernoulli_on_cpu, mask<BernoulliAttrs>,
                       on<OnCpu>(binding<BernoulliAttrs>()));
XLA_FFI_DEFINE_HANDLER(bernoulli_on_cuda, mask<BernoulliAttrs>,
                       on<OnCuda>(binding<BernoulliAttrs>()), {kCapturable});
XLA_FFI_DEFINE_HANDLER(gyro_on_cpu, mask<GyroAttrs>, on<OnCpu>(binding<GyroAttrs>()));
XLA_FFI_DEFINE_HANDLER(gyro_on_cuda, mask<GyroAttrs>, on<OnCuda>(binding<GyroAttrs>()),
                       {kCapturable});
XLA_FFI_DEFINE_HANDLER(pattern_on_cpu, scaled_mask, on<OnCpu>(scaled_binding()));
XLA_FFI_DEFINE_HANDLER(pattern_on_cuda, scaled_mask, on<OnCuda>(scaled_binding()), {kCapturable});

}  // namespace

const Target kBernoulliMask = {"bernoulli_mask", bernoulli_on_cpu, bernoulli_on_cuda};
const Target kGyroMask = {"gyro_mask", gyro_on_cpu, gyro_on_cuda};
const Target kPatternMask = {"pattern_mask", pattern_on_cpu, pattern_on_cuda};

}  // namespace dropgemm::python
