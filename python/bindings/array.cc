// Conversions of operands; what they accept is in array.h.
#include "array.h"

#include "dropgemm/backend.h"

#include <stdexcept>
#include <string>

#include <nanobind/stl/string.h>

namespace dropgemm::python {

namespace {

[[noreturn]] void raise_type(const std::string& name, const std::string& expected,
                             const std::string& got) {
  throw nb::type_error((name + ": expected " + expected + ", got " + got).c_str());
}

[[noreturn]] void raise_value(const std::string& name, const std::string& expected,
                              const std::string& got) {
  throw nb::value_error((name + ": expected " + expected + ", got " + got).c_str());
}

std::string kind_of(nb::handle object) {
  return nb::cast<std::string>(nb::str(object.type().attr("__name__")));
}

std::string dtype_text(nb::dlpack::dtype dtype) {
  const char* kind = "unknown";
  switch (static_cast<nb::dlpack::dtype_code>(dtype.code)) {
    case nb::dlpack::dtype_code::Int:
      kind = "int";
      break;
    case nb::dlpack::dtype_code::UInt:
      kind = "uint";
      break;
    case nb::dlpack::dtype_code::Float:
      kind = "float";
      break;
    case nb::dlpack::dtype_code::Bfloat:
      kind = "bfloat";
      break;
    case nb::dlpack::dtype_code::Complex:
      kind = "complex";
      break;
    case nb::dlpack::dtype_code::Bool:
      return "bool";
    default:
      break;
  }
  return kind + std::to_string(dtype.bits);
}

DType to_dtype(const char* name, nb::dlpack::dtype dtype) {
  if (dtype == nb::dtype<float>()) return DType::kFloat32;
  if (dtype == nb::dtype<double>()) return DType::kFloat64;
  const auto code = static_cast<nb::dlpack::dtype_code>(dtype.code);
  if (code == nb::dlpack::dtype_code::Bfloat && dtype.bits == 16 && dtype.lanes == 1) {
    return DType::kBFloat16;
  }
  if (code == nb::dlpack::dtype_code::Float && dtype.bits == 16 && dtype.lanes == 1) {
    return DType::kFloat16;
  }
  raise_type(name, "float32, float64, bfloat16 or float16", dtype_text(dtype));
}

Owner to_array(const char* name, nb::handle object, Access access) {
  Owner array;
  if (!nb::try_cast(object, array, /*convert=*/false)) {
    raise_type(name, "an array in the CPU's memory", kind_of(object));
  }
  if (array.device_type() != nb::device::cpu::value) {
    raise_type(name, "an array in the CPU's memory",
               array.device_type() == nb::device::cuda::value
                   ? "one on CUDA device " + std::to_string(array.device_id())
                   : "one on device type " + std::to_string(array.device_type()));
  }
  if (access == Access::kWrite) {
    nb::ndarray<> writable;
    if (!nb::try_cast(object, writable, /*convert=*/false)) {
      raise_value(name, "a writable array", "a read-only one");
    }
  }
  return array;
}

void* address(const Owner& array) {
  return static_cast<char*>(array.data_handle()) + array.byte_offset();
}

void check_rank(const char* name, const Owner& array, std::size_t rank) {
  if (array.ndim() != rank) {
    raise_value(name, "a " + std::to_string(rank) + "-D array",
                std::to_string(array.ndim()) + "-D");
  }
}

bool is_tuple(const char* name, nb::handle object, Py_ssize_t size) {
  if (!PyTuple_Check(object.ptr())) return false;
  if (PyTuple_Size(object.ptr()) != size) {
    raise_type(name, "a tuple of " + std::to_string(size),
               "one of " + std::to_string(PyTuple_Size(object.ptr())));
  }
  return true;
}

std::int64_t int_at(nb::handle tuple, Py_ssize_t index) {
  const long long value = PyLong_AsLongLong(PyTuple_GetItem(tuple.ptr(), index));
  if (value == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
  return value;
}

double float_at(nb::handle tuple, Py_ssize_t index) {
  const double value = PyFloat_AsDouble(PyTuple_GetItem(tuple.ptr(), index));
  if (value == -1.0 && PyErr_Occurred() != nullptr) throw nb::python_error();
  return value;
}

void* to_address(nb::handle object) {
  void* pointer = PyLong_AsVoidPtr(object.ptr());
  if (pointer == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return pointer;
}

void* address_at(nb::handle tuple, Py_ssize_t index) {
  return to_address(PyTuple_GetItem(tuple.ptr(), index));
}

DType dtype_at(const char* name, nb::handle tuple, Py_ssize_t index) {
  const std::int64_t code = int_at(tuple, index);
  if (code < static_cast<std::int64_t>(DType::kFloat32) ||
      code > static_cast<std::int64_t>(DType::kFloat16)) {
    raise_type(name, "dtype code 0 (float32), 1 (float64), 2 (bfloat16) or 3 (float16)",
               std::to_string(code));
  }
  return static_cast<DType>(code);
}

// The number of elements of an array that has no gaps.
std::int64_t contiguous_size(const char* name, const Owner& array) {
  std::int64_t size = 1;
  bool contiguous = true;
  for (std::size_t i = array.ndim(); i-- > 0;) {
    contiguous = contiguous && (array.shape(i) <= 1 || array.stride(i) == size);
    size *= static_cast<std::int64_t>(array.shape(i));
  }
  if (!contiguous && size > 0) raise_value(name, "a contiguous array", "a strided one");
  return size;
}

}  // namespace

Matrix to_matrix(const char* name, nb::handle object, Access access) {
  Matrix matrix;
  MatrixView& view = matrix.view;
  if (is_tuple(name, object, 6)) {
    view.data = address_at(object, 0);
    view.dtype = dtype_at(name, object, 1);
    view.rows = int_at(object, 2);
    view.cols = int_at(object, 3);
    view.row_stride = int_at(object, 4);
    view.col_stride = int_at(object, 5);
    return matrix;
  }
  matrix.owner = to_array(name, object, access);
  check_rank(name, matrix.owner, 2);
  view.data = address(matrix.owner);
  view.dtype = to_dtype(name, matrix.owner.dtype());
  view.rows = static_cast<std::int64_t>(matrix.owner.shape(0));
  view.cols = static_cast<std::int64_t>(matrix.owner.shape(1));
  view.row_stride = matrix.owner.stride(0);
  view.col_stride = matrix.owner.stride(1);
  return matrix;
}

Vector to_vector(const char* name, nb::handle object, Access access) {
  Vector vector;
  if (is_tuple(name, object, 4)) {
    vector.data = address_at(object, 0);
    vector.dtype = dtype_at(name, object, 1);
    vector.size = int_at(object, 2);
    vector.stride = int_at(object, 3);
    return vector;
  }
  vector.owner = to_array(name, object, access);
  check_rank(name, vector.owner, 1);
  vector.data = address(vector.owner);
  vector.dtype = to_dtype(name, vector.owner.dtype());
  vector.size = static_cast<std::int64_t>(vector.owner.shape(0));
  vector.stride = vector.owner.stride(0);
  return vector;
}

FloatScalar to_float_scalar(const char* name, nb::handle object, Access access) {
  FloatScalar scalar;
  if (object.is_none()) return scalar;
  if (PyLong_Check(object.ptr())) {
    scalar.data = static_cast<float*>(to_address(object));
    return scalar;
  }
  scalar.owner = to_array(name, object, access);
  check_rank(name, scalar.owner, 0);
  if (scalar.owner.dtype() != nb::dtype<float>()) {
    raise_type(name, "float32", dtype_text(scalar.owner.dtype()));
  }
  scalar.data = static_cast<float*>(address(scalar.owner));
  return scalar;
}

Step to_step(const char* name, nb::handle object) {
  Step step;
  if (PyLong_Check(object.ptr())) {
    step.ref.value = nb::cast<std::int64_t>(object);
    return step;
  }
  if (is_tuple(name, object, 1)) {
    step.ref.device = static_cast<const std::int64_t*>(address_at(object, 0));
    return step;
  }
  step.owner = to_array(name, object, Access::kRead);
  check_rank(name, step.owner, 0);
  if (step.owner.dtype() != nb::dtype<std::int64_t>()) {
    raise_type(name, "int64", dtype_text(step.owner.dtype()));
  }
  step.ref.device = static_cast<const std::int64_t*>(address(step.owner));
  return step;
}

Seed to_seed(const char* name, nb::handle object) {
  Seed seed;
  if (is_tuple(name, object, 1)) {
    seed.device = static_cast<const std::uint64_t*>(address_at(object, 0));
  } else {
    seed.value = nb::cast<std::uint64_t>(object);
  }
  return seed;
}

Thresholds to_thresholds(const char* name, nb::handle object) {
  Thresholds result;
  if (object.is_none()) return result;
  if (is_tuple(name, object, 2)) {
    result.data = static_cast<const std::uint64_t*>(address_at(object, 0));
    result.size = int_at(object, 1);
    return result;
  }
  result.owner = to_array(name, object, Access::kRead);
  const Owner& array = result.owner;
  check_rank(name, array, 1);
  if (array.dtype() != nb::dtype<std::uint64_t>() && array.dtype() != nb::dtype<std::int64_t>()) {
    raise_type(name, "uint64", dtype_text(array.dtype()));
  }
  result.size = contiguous_size(name, array);
  result.data = static_cast<const std::uint64_t*>(address(array));
  return result;
}

MaskWords to_mask_words(const char* name, nb::handle object, Access access, std::int64_t words) {
  MaskWords result;
  if (PyLong_Check(object.ptr())) {
    result.data = static_cast<std::uint32_t*>(to_address(object));
    return result;
  }
  result.owner = to_array(name, object, access);
  const Owner& array = result.owner;
  if (array.dtype() != nb::dtype<std::uint32_t>() && array.dtype() != nb::dtype<std::int32_t>()) {
    raise_type(name, "bits of dtype uint32", dtype_text(array.dtype()));
  }
  const std::int64_t size = contiguous_size(name, array);
  if (size < words) {
    raise_value(name, "at least " + std::to_string(words) + " words of bits", std::to_string(size));
  }
  result.data = static_cast<std::uint32_t*>(address(array));
  return result;
}

MaskTarget to_mask_target(nb::handle bits, std::int64_t rows, std::int64_t cols,
                          std::int64_t tile_rows, std::int64_t tile_cols) {
  if (rows < 0 || cols < 0 || tile_rows < 1 || tile_cols < 1) {
    raise_value("mask", "sizes of at least 0 and tiles of at least 1",
                std::to_string(rows) + "x" + std::to_string(cols) + " with tiles of " +
                    std::to_string(tile_rows) + "x" + std::to_string(tile_cols));
  }
  MaskTarget target;
  target.words =
      to_mask_words("bits", bits, Access::kWrite, mask_words(rows, cols, tile_rows, tile_cols));
  target.view = {target.words.data, rows, cols, tile_rows, tile_cols};
  return target;
}

Bytes to_bytes(const char* name, nb::handle object, std::int64_t size) {
  Bytes bytes;
  if (PyLong_Check(object.ptr())) {
    bytes.data = static_cast<std::uint8_t*>(to_address(object));
    return bytes;
  }
  bytes.owner = to_array(name, object, Access::kWrite);
  const std::int64_t got = contiguous_size(name, bytes.owner);
  if (bytes.owner.itemsize() != 1 || got != size) {
    raise_value(name, std::to_string(size) + " elements of one byte",
                std::to_string(got) + " of " + std::to_string(bytes.owner.itemsize()));
  }
  bytes.data = static_cast<std::uint8_t*>(address(bytes.owner));
  return bytes;
}

std::optional<Mask> to_mask(const char* name, nb::handle object) {
  if (object.is_none()) return std::nullopt;
  if (!is_tuple(name, object, 7)) {
    raise_type(name, "a tuple (bits, rows, cols, tile rows, tile cols, keep hint, transposed)",
               kind_of(object));
  }
  Mask mask;
  TileMaskView& view = mask.view;
  view.rows = int_at(object, 1);
  view.cols = int_at(object, 2);
  view.tile_rows = int_at(object, 3);
  view.tile_cols = int_at(object, 4);
  view.keep_hint = float_at(object, 5);
  view.transposed = PyObject_IsTrue(PyTuple_GetItem(object.ptr(), 6)) == 1;
  // Sizes that make no sense are the core's to refuse: here they only must not be divided by.
  const bool countable =
      view.rows >= 0 && view.cols >= 0 && view.tile_rows > 0 && view.tile_cols > 0;
  const std::int64_t words = !countable ? 0
                             : view.transposed
                                 ? mask_words(view.cols, view.rows, view.tile_cols, view.tile_rows)
                                 : mask_words(view.rows, view.cols, view.tile_rows, view.tile_cols);
  MaskWords bits = to_mask_words(name, PyTuple_GetItem(object.ptr(), 0), Access::kRead, words);
  mask.owner = std::move(bits.owner);
  view.bits = bits.data;
  return mask;
}

Context to_context(nb::handle stream) {
  Context context;
  if (stream.is_none()) return context;
  raise_if_error(find_backend("cuda", &context.backend));
  context.stream = to_address(stream);
  return context;
}

void raise_if_error(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return;
    case StatusCode::kInvalidArgument:
      throw nb::value_error(status.message().c_str());
    case StatusCode::kInvalidType:
      throw nb::type_error(status.message().c_str());
    default:
      throw std::runtime_error(status.message());
  }
}

}  // namespace dropgemm::python
