// The element-wise half of an LSTM's step, of one row (lstm.h): kW units at a time. Included by ISA
// files only: internal linkage, nothing of the standard library.
#pragma once

#include "cpu/kernel_convert.h"
#include "cpu/kernel_math.h"

namespace dropgemm::cpu {
namespace {

template <class S, int kW>
struct Cell {
  typedef typename SumOf<S>::Type T;
  typedef typename Lanes<T, kW>::V V;
  typedef Exponential<T, kW> Exp;

  // The first `count` of kW units.
  static V get(const S* p, int count) {
    typedef Lanes<S, kW> Line;
    return Stored<S, kW>::widen(count == kW ? Line::load(p) : Line::load_some(p, count));
  }
  static void set(S* p, V v, int count) {
    typedef Lanes<S, kW> Line;
    if (count == kW) return Line::put(p, Stored<S, kW>::narrow(v));
    Line::put_some(p, Stored<S, kW>::narrow(v), count);
  }
  static int left(std::int64_t units, std::int64_t j) {
    return units - j < kW ? static_cast<int>(units - j) : kW;
  }

  static void forward(const LstmCell<S>& x) {
    for (std::int64_t j = 0; j < x.units; j += kW) {
      const int count = left(x.units, j);
      const S* const sums = x.sums + j;
      S* const gates = x.gates + j;
      const V i = Exp::sigmoid(get(sums, count)), f = Exp::sigmoid(get(sums + x.units, count));
      const V g = Exp::tanh(get(sums + 2 * x.units, count));
      const V o = Exp::sigmoid(get(sums + 3 * x.units, count));
      const V c = f * get(x.c_before + j, count) + i * g;
      set(gates, i, count);
      set(gates + x.units, f, count);
      set(gates + 2 * x.units, g, count);
      set(gates + 3 * x.units, o, count);
      set(x.c + j, c, count);
      set(x.h + j, o * Exp::tanh(c), count);
    }
  }

  static void backward(const LstmCellGrad<S>& x) {
    for (std::int64_t j = 0; j < x.units; j += kW) {
      const int count = left(x.units, j);
      const S* const gates = x.gates + j;
      S* const d_gates = x.d_gates + j;
      const V i = get(gates, count), f = get(gates + x.units, count);
      const V g = get(gates + 2 * x.units, count), o = get(gates + 3 * x.units, count);
      const V t = Exp::tanh(get(x.c + j, count)), d_h = get(x.d_h + j, count);
      const V d_c = get(x.d_c + j, count) + d_h * o * (T(1) - t * t);
      set(d_gates, d_c * g * i * (T(1) - i), count);
      set(d_gates + x.units, d_c * get(x.c_before + j, count) * f * (T(1) - f), count);
      set(d_gates + 2 * x.units, d_c * i * (T(1) - g * g), count);
      set(d_gates + 3 * x.units, d_h * t * o * (T(1) - o), count);
      set(x.d_c + j, d_c * f, count);
    }
  }
};

}  // namespace
}  // namespace dropgemm::cpu
