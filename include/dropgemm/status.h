// What every fallible call of this library returns: a code and a sentence.
// The sentence names the operand, what was expected and what came.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace dropgemm {

enum class StatusCode : std::int32_t {
  kOk = 0,
  kInvalidArgument = 1,  // shapes, strides, masks, rates: the caller can mend it
  kInvalidType = 2,      // a dtype or kind of array that the call does not take
  kUnsupported = 3,      // legal, but this backend or machine cannot do it
  kBackendError = 4,     // the backend failed: out of memory, driver, device
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  // "a: expected 2-D float32, got float64"
  static Status invalid(const std::string& operand, const std::string& expected,
                        const std::string& got) {
    return {StatusCode::kInvalidArgument, operand + ": expected " + expected + ", got " + got};
  }
  static Status invalid_type(const std::string& operand, const std::string& expected,
                             const std::string& got) {
    return {StatusCode::kInvalidType, operand + ": expected " + expected + ", got " + got};
  }

  [[nodiscard]] bool ok() const { return code_ == StatusCode::kOk; }
  [[nodiscard]] StatusCode code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// Hands a failed Status up to the caller.
#define DROPGEMM_RETURN_IF_ERROR(expression)                     \
  do {                                                           \
    ::dropgemm::Status status_of_expression = (expression);      \
    if (!status_of_expression.ok()) return status_of_expression; \
  } while (false)

}  // namespace dropgemm
