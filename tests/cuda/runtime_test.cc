// What is said of machines, memory and errors, by an emulated machine that can be anything.
#include "cuda/runtime.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/api.h"
#include "cuda/backend.h"
#include "cuda/emulator_api.h"
#include "dropgemm/compact.h"
#include "dropgemm/mask.h"
#include "dropgemm/sgd.h"

namespace dropgemm::cuda {
namespace {

class RuntimeTest : public testing::Test {
 protected:
  RuntimeTest() {
    emulator::set_host_memory_refused(true);
    ctx_.backend = backend();
  }
  ~RuntimeTest() override {
    emulator::machine() = emulator::Machine();
    emulator::set_host_memory_refused(false);
    for (void* memory : memory_) emulator::device_free(memory);
  }
  static std::string refusal() {
    std::vector<Device> devices;
    const Status status = read_machine(&devices);
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    return status.message();
  }
  template <class T>
  T* on_device(std::int32_t device, std::int64_t count) {
    void* const memory =
        emulator::device_malloc(device, static_cast<std::size_t>(count) * sizeof(T));
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }
  BernoulliMaskArgs mask_of(std::uint32_t* bits) {
    BernoulliMaskArgs args;
    args.mask = {bits, 8, 32, 1, 1};
    return args;
  }
  Context ctx_;
  std::vector<void*> memory_;
};

TEST_F(RuntimeTest, WhatAMachineLacksIsNamed) {
  emulator::machine().driver = 0;
  EXPECT_EQ(refusal(), "no NVIDIA driver is installed");
  emulator::machine().driver = 12040;
  EXPECT_EQ(refusal(),
            "the NVIDIA driver is too old: expected one for CUDA 13.0 or newer, got one for CUDA "
            "12.4");
  emulator::machine().driver = 13010;
  emulator::machine().archs = {};
  EXPECT_EQ(refusal(), "no CUDA device is visible (is CUDA_VISIBLE_DEVICES empty?)");
  emulator::machine().archs = {75};
  EXPECT_EQ(refusal(), "device 0 (emulated): expected compute capability 8.0 or newer, got 7.5");
}

TEST_F(RuntimeTest, OneUsableDeviceIsEnough) {
  emulator::machine().archs = {75, 90};
  std::vector<Device> devices;
  ASSERT_TRUE(read_machine(&devices).ok());
  ASSERT_EQ(devices.size(), 2U);
  EXPECT_EQ(devices[1].arch, 90);
}

TEST_F(RuntimeTest, TheHostsMemoryIsRefusedByName) {
  std::vector<std::uint32_t> bits(8, 7);
  EXPECT_EQ(bernoulli_mask(ctx_, mask_of(bits.data())).message(),
            "mask: expected memory of a CUDA device, got memory of the host");
  const std::int64_t step = 3;
  BernoulliMaskArgs args = mask_of(on_device<std::uint32_t>(0, 8));
  args.step.device = &step;
  EXPECT_EQ(bernoulli_mask(ctx_, args).message(),
            "step: expected memory of a CUDA device, got memory of the host");
  EXPECT_EQ(bits, std::vector<std::uint32_t>(8, 7));
}

TEST_F(RuntimeTest, MixedDevicesAreRefusedByName) {
  SgdArgs args;
  args.w = on_device<float>(1, 4);
  args.g = on_device<float>(0, 4);
  args.size = 4;
  const Status status = sgd(ctx_, args);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "g: expected memory of device 1 as w has, got memory of device 0");
}

TEST_F(RuntimeTest, CallsRunWhereTheOperandsLieAndLeaveTheCurrentDevice) {
  std::uint32_t* const bits = on_device<std::uint32_t>(1, 8);
  BernoulliMaskArgs args = mask_of(bits);
  args.p = 0.0;
  const Status status = bernoulli_mask(ctx_, args);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(bits[7], 0xFFFFFFFFU);
  EXPECT_EQ(emulator::machine().current, 0);
  const Device* device = nullptr;
  ASSERT_TRUE(find_device_of({{"bits", bits + 3}, {"absent", nullptr}}, &device).ok());
  {
    OnDevice on;
    ASSERT_TRUE(on.enter(*device).ok());
    EXPECT_EQ(emulator::machine().current, 1);
  }
  EXPECT_EQ(emulator::machine().current, 0);
}

TEST_F(RuntimeTest, OutOfMemoryIsSaidAndPasses) {
  emulator::machine().free_bytes = 1000;
  Workspace workspace;
  const Status status = workspace.take(ctx_, 4096);
  EXPECT_EQ(status.code(), StatusCode::kBackendError);
  EXPECT_EQ(status.message(),
            "a workspace of 4096 bytes: the device is out of memory, cudaErrorMemoryAllocation "
            "(emulated)");
  EXPECT_TRUE(workspace.take(ctx_, 900).ok());
}

TEST_F(RuntimeTest, AWorkspaceThatIsTooSmallIsRefused) {
  Context ctx = ctx_;
  ctx.workspace = on_device<char>(0, 64);
  ctx.workspace_bytes = 64;
  Workspace workspace;
  EXPECT_EQ(workspace.take(ctx, 65).message(), "ctx.workspace: expected 65 bytes, got 64");
}

TEST_F(RuntimeTest, AnErrorOfAnEarlierKernelIsNotTakenForThisCalls) {
  std::uint32_t* const bits = on_device<std::uint32_t>(0, 8);
  bits[0] = 5;
  emulator::machine().error = api::kIllegalAddress;
  for (int again = 0; again < 2; ++again) {
    const Status status = bernoulli_mask(ctx_, mask_of(bits));
    EXPECT_EQ(status.code(), StatusCode::kBackendError);
    EXPECT_EQ(status.message(),
              "an earlier kernel of this process failed, cudaErrorIllegalAddress (emulated), and "
              "left its CUDA context unusable: what reported it was cudaPointerGetAttributes");
  }
  EXPECT_EQ(bits[0], 5U);
}

TEST_F(RuntimeTest, AStreamOfAnotherDeviceIsNamed) {
  emulator::machine().error = api::kInvalidHandle;
  const BernoulliMaskArgs args = mask_of(on_device<std::uint32_t>(0, 8));
  const Status status = bernoulli_mask(ctx_, args);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "ctx.stream: expected a stream of the device that the operands lie on, got "
            "cudaErrorInvalidResourceHandle (emulated)");
  EXPECT_TRUE(bernoulli_mask(ctx_, args).ok()) << "the next call is none the worse";
}

TEST_F(RuntimeTest, OtherFailuresOfALaunchNameTheKernel) {
  emulator::machine().error = api::kNoKernelImage;
  const BernoulliMaskArgs args = mask_of(on_device<std::uint32_t>(0, 8));
  Status status = bernoulli_mask(ctx_, args);
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_EQ(status.message(),
            "kernel bernoulli_mask: this build has no code for the device, cudaError (emulated)");
  EXPECT_EQ(check("cudaMallocAsync", api::kCaptureUnsupported).message(),
            "cudaMallocAsync: not possible while a CUDA graph is captured, cudaError (emulated)");
}

}  // namespace
}  // namespace dropgemm::cuda
