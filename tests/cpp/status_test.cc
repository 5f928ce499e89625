// Status: codes, sentences, and carrying both across a backend table's C functions.
#include "dropgemm/status.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "registry.h"

namespace dropgemm {
namespace {

TEST(Status, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.message(), "");
}

TEST(Status, InvalidNamesOperandExpectedAndGot) {
  const Status status = Status::invalid("a", "shape [2, 3]", "[3, 2]");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "a: expected shape [2, 3], got [3, 2]");
  EXPECT_EQ(Status::invalid_type("b", "float32", "float64").code(), StatusCode::kInvalidType);
  EXPECT_EQ(Status::invalid_type("b", "float32", "float64").message(),
            "b: expected float32, got float64");
}

Status first_failure(int fail_at, int* reached) {
  for (*reached = 0; *reached < 3; ++*reached) {
    DROPGEMM_RETURN_IF_ERROR(*reached == fail_at ? Status(StatusCode::kUnsupported, "here")
                                                 : Status());
  }
  return {};
}

TEST(Status, ReturnIfErrorStopsAtTheFirstFailure) {
  int reached = 0;
  EXPECT_TRUE(first_failure(-1, &reached).ok());
  EXPECT_EQ(reached, 3);
  const Status status = first_failure(1, &reached);
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_EQ(status.message(), "here");
  EXPECT_EQ(reached, 1);
}

TEST(Status, SurvivesTheTripThroughACFunction) {
  for (const StatusCode code : {StatusCode::kInvalidArgument, StatusCode::kInvalidType,
                                StatusCode::kUnsupported, StatusCode::kBackendError}) {
    const Status sent(code, "ctx.stream: expected a stream of this device, got another's");
    const Status got = call_backend([&](ErrorText error) { return report(sent, error); });
    EXPECT_EQ(got.code(), sent.code());
    EXPECT_EQ(got.message(), sent.message());
  }
  EXPECT_TRUE(call_backend([](ErrorText error) { return report(Status(), error); }).ok());
}

TEST(Status, LongMessagesAreCutNotOverrun) {
  char text[8];
  std::memset(text, 'x', sizeof text);
  EXPECT_EQ(report({StatusCode::kBackendError, "0123456789"}, {text, 5}), 4);
  EXPECT_STREQ(text, "0123");
  EXPECT_EQ(text[5], 'x');
  EXPECT_EQ(report({StatusCode::kBackendError, "0123456789"}, {nullptr, 0}), 4);
  EXPECT_EQ(report({StatusCode::kBackendError, "0123456789"}, {text, 0}), 4);
  EXPECT_STREQ(text, "0123");
}

TEST(Status, AFailureWithoutWordsStillSaysSomething) {
  const Status status = call_backend([](ErrorText) { return std::int32_t{4}; });
  EXPECT_EQ(status.code(), StatusCode::kBackendError);
  EXPECT_EQ(status.message(), "the backend failed with code 4");
}

}  // namespace
}  // namespace dropgemm
