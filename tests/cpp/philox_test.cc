// Philox4x32-10 against the known answers that its authors publish (Random123, kat_vectors), and
// the way the counter is spent (philox.h).
#include "dropgemm/philox.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <tuple>

namespace dropgemm {
namespace {

struct KnownAnswer {
  PhiloxBlock counter;
  std::uint32_t key0, key1;
  PhiloxBlock answer;
};

constexpr KnownAnswer kKnownAnswers[] = {
    {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
    {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
     0xffffffff,
     0xffffffff,
     {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
    {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
     0xa4093822,
     0x299f31d0,
     {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
};

TEST(Philox, MatchesThePublishedKnownAnswers) {
  for (const KnownAnswer& known : kKnownAnswers) {
    const PhiloxBlock got = philox4x32_10(known.counter, known.key0, known.key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], known.answer.word[i]) << "word " << i;
  }
}

TEST(Philox, IsAConstantExpression) {
  constexpr PhiloxBlock block = philox4x32_10({{0, 0, 0, 0}}, 0, 0);
  static_assert(block.word[0] == 0x6627e8d5U, "the first known answer");
}

TEST(Philox, AStreamSpendsItsCounterAsWrittenDown) {
  constexpr DrawStream stream = {0x299f31d0a4093822ULL, Domain::kSubnetIds, 0x13198a2e, 0x85a308d3,
                                 0x0abcdef};
  const PhiloxBlock expected = philox4x32_10(
      {{1234567, 0x85a308d3, 0x13198a2e, (3U << 28) | 0x0abcdefU}}, 0xa4093822, 0x299f31d0);
  for (std::uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(stream.block(1234567).word[i], expected.word[i]);
    EXPECT_EQ(stream.draw(std::uint64_t{4} * 1234567 + i), expected.word[i]);
  }
}

TEST(Philox, TheLastDrawOfTheLargestStreamIsItsOwn) {
  const DrawStream stream = {7, Domain::kBits, 1, 2, 3};
  const auto last = static_cast<std::uint64_t>(kMaxDraws) - 1;
  EXPECT_EQ(stream.draw(last), stream.block(0xffffffffU).word[3]);
  EXPECT_NE(stream.draw(last), stream.draw(3));
}

// Changing any one coordinate gives another block: 96 random bits collide with chance 2^-120.
TEST(Philox, EveryCoordinateMatters) {
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
  const auto add = [&](const DrawStream& stream, std::uint32_t block) {
    const PhiloxBlock b = stream.block(block);
    seen.insert({b.word[0], b.word[1], b.word[2], b.word[3]});
  };
  add({0, Domain::kBits, 0, 0, 0}, 0);
  add({1, Domain::kBits, 0, 0, 0}, 0);
  add({std::uint64_t{1} << 32, Domain::kBits, 0, 0, 0}, 0);
  add({0, Domain::kExact, 0, 0, 0}, 0);
  add({0, Domain::kSubnetIds, 0, 0, 0}, 0);
  add({0, Domain::kPattern, 0, 0, 0}, 0);
  add({0, Domain::kOffset, 0, 0, 0}, 0);
  add({0, Domain::kBits, 1, 0, 0}, 0);
  add({0, Domain::kBits, 0, 1, 0}, 0);
  add({0, Domain::kBits, 0, 0, 1}, 0);
  add({0, Domain::kBits, 0, 0, static_cast<std::uint32_t>(kMaxCall)}, 0);
  add({0, Domain::kBits, 0, 0, 0}, 1);
  EXPECT_EQ(seen.size(), 12U);
}

TEST(Philox, ThresholdEndsAreExact) {
  EXPECT_EQ(drop_threshold(0.0), 0U);
  EXPECT_EQ(drop_threshold(1.0), std::uint64_t{1} << 32);
  EXPECT_EQ(drop_threshold(0.5), std::uint64_t{1} << 31);
  EXPECT_EQ(drop_threshold(0.1), 429496729U);  // floor(429496729.6)
  EXPECT_EQ(drop_threshold(1.0 - 1e-12), 0xffffffffU);
}

}  // namespace
}  // namespace dropgemm
