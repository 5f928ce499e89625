// Exponentials and what is made of them, on kW lanes of T in the compiler's vector extensions:
// sigmoid and tanh; GELU, as torch has it with erf and with tanh, and its derivatives. All are made
// of an exponential of something negative, so that nothing overflows and small results keep their
// digits: GELU is z times a share of z in [0, 1].
// Included by ISA files only: internal linkage, nothing of the standard library.
#pragma once

#include "cpu/kernel_vector.h"

namespace dropgemm::cpu {
namespace {

template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr float kLowestExponent = -87.3F;  // e to this is still a normal number
  static constexpr float kRound = 12582912.0F;      // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  static constexpr float kExp[] = {1.0F,      1.0F,       1.0F / 2,   1.0F / 6,
                                   1.0F / 24, 1.0F / 120, 1.0F / 720, 1.0F / 5040};
  // e^(t^2 / 2) * P(X < -t), X standard normal, t in [0, kTailEnd]: a minimax quotient of
  // polynomials, relative error 6e-9. The derivative of erf past kTailEnd is 0.
  static constexpr float kTailEnd = 14;
  static constexpr float kTailOver[] = {.50000000272989782817F, .43726782363904487418F,
                                        .18247454821055756454F, .040376881450796505129F,
                                        .0040782539770650156061F};
  static constexpr float kTailUnder[] = {1.0F,
                                         1.6724206003994915504F,
                                         1.1993431613161748572F,
                                         .46746267079602790984F,
                                         .10121663860512835471F,
                                         .010222538063939791415F};
};

template <>
struct MathConstants<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr double kLowestExponent = -708.3;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93147180369123816490e-1,
                          kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kExp[] = {1.0,
                                    1.0,
                                    1.0 / 2,
                                    1.0 / 6,
                                    1.0 / 24,
                                    1.0 / 120,
                                    1.0 / 720,
                                    1.0 / 5040,
                                    1.0 / 40320,
                                    1.0 / 362880,
                                    1.0 / 3628800,
                                    1.0 / 39916800,
                                    1.0 / 479001600,
                                    1.0 / 6227020800.0};
  static constexpr double kTailEnd = 40;  // relative error 6e-17
  static constexpr double kTailOver[] = {0.49999999999999997338,     0.77548790285242429428,
                                         0.59493616857174061009,     0.28996847027275392757,
                                         0.097984819522824118024,    0.023709663162408477183,
                                         0.004107846679378825558,    0.00049309794829891721995,
                                         0.000037497643724762715491, 1.3965441878767391547e-6};
  static constexpr double kTailUnder[] = {1.0,
                                          2.3488603665077034317,
                                          2.5639917590620736277,
                                          1.7172377161364962992,
                                          0.78383769444850535185,
                                          0.25572036715562333103,
                                          0.06066032449597527158,
                                          0.010390837277792523039,
                                          0.0012395138767032157644,
                                          0.000093992653990553539258,
                                          3.5006171481128332026e-6};
};

template <class T, int kW>
struct Exponential {
  typedef typename Lanes<T, kW>::V V;
  typedef typename Lanes<T, kW>::Bits Bits;
  typedef MathConstants<T> Constants;

  // The sum of terms[i] x^(i - kFirst) from kFirst on.
  template <int kFirst = 0, int kTerms>
  static V polynomial(const T (&terms)[kTerms], V x) {
    V sum = V{} + terms[kTerms - 1];
#pragma GCC unroll 16
    for (int i = kTerms - 2; i >= kFirst; --i) sum = sum * x + terms[i];
    return sum;
  }

  // x = n log 2 + rest, with n in the lowest bits of `shifted`.
  static V reduce(V x, V* shifted) {
    constexpr T kLog2E = T(1.4426950408889634074);
    *shifted = x * kLog2E + Constants::kRound;
    const V n = *shifted - Constants::kRound;
    return (x - n * Constants::kLn2High) - n * Constants::kLn2Low;
  }
  // 2^n v.
  static V times_power(V v, V shifted) {
    return (V)((Bits)v + ((Bits)shifted << Constants::kMantissaBits));
  }

  // e^x for x <= 0, 0 where it would not be a normal number; NaN stays NaN.
  static V of(V x) {
    V shifted;
    const V rest = reduce(x, &shifted);
    const V result = times_power(polynomial(Constants::kExp, rest), shifted);
    return x < Constants::kLowestExponent ? V{} : result;
  }
  // e^x - 1 likewise, with all digits of what is near 0.
  static V minus_one(V x) {
    V shifted;
    const V rest = reduce(x, &shifted), power = times_power(V{} + T(1), shifted);
    const V result = power * (rest * polynomial<1>(Constants::kExp, rest)) + (power - T(1));
    return x < Constants::kLowestExponent ? V{} - T(1) : result;
  }

  static V sigmoid(V x) {
    const V power = of(x < T(0) ? x : -x), larger = T(1) / (T(1) + power);
    return x < T(0) ? power * larger : larger;
  }
  static V tanh(V x) {
    const V less = minus_one(T(2) * (x < T(0) ? x : -x)), result = -less / (T(2) + less);
    return x < T(0) ? -result : result;
  }
};

template <class T, int kW>
struct Gelu {
  typedef Exponential<T, kW> Exp;
  typedef typename Exp::V V;
  typedef MathConstants<T> Constants;

  static V erf(V z) {
    V density;
    return z * normal(z, &density);
  }
  // The derivative at z.
  static V erf_slope(V z) {
    constexpr T kInvSqrtTwoPi = T(0.39894228040143267794);
    V density;
    const V share = normal(z, &density);
    return share + near(z) * kInvSqrtTwoPi * density;
  }

  static V tanh(V z) {
    V product;
    return z * logistic(z, &product);
  }
  static V tanh_slope(V z) {
    V product;
    const V share = logistic(z, &product), x = near(z);
    return share + T(2) * x * product * (kSqrtTwoOverPi * (T(1) + T(3) * kCubic * x * x));
  }

 private:
  static constexpr T kSqrtTwoOverPi = T(0.79788456080286535588), kCubic = T(0.044715);

  // z where it matters: past kFlat density and product are 0, and 0 * infinity would be NaN.
  static V near(V z) {
    constexpr T kFlat = 40;
    return z > kFlat ? V{} + kFlat : z < -kFlat ? V{} - kFlat : z;
  }

  // P(X < z) for a standard normal X, and e^(-z^2 / 2).
  static V normal(V z, V* density) {
    const V size = z < T(0) ? -z : z;
    const V t = size > Constants::kTailEnd ? V{} + Constants::kTailEnd : size;
    *density = Exp::of(T(-0.5) * z * z);
    const V tail = *density * Exp::polynomial(Constants::kTailOver, t) /
                   Exp::polynomial(Constants::kTailUnder, t);
    return z < T(0) ? tail : T(1) - tail;
  }

  // (1 + tanh u) / 2 and that times (1 - tanh u) / 2, u = sqrt(2 / pi) (z + kCubic z^3).
  static V logistic(V z, V* product) {
    const V u = kSqrtTwoOverPi * (z + kCubic * z * z * z);
    const V power = Exp::of(T(-2) * (u < T(0) ? -u : u));
    const V larger = T(1) / (T(1) + power);
    *product = power * larger * larger;
    return z < T(0) ? power * larger : larger;
  }
};

}  // namespace
}  // namespace dropgemm::cpu
