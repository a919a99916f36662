// The TensorFlow ops: one call makes float32 variables, one moves a whole .weights file into them.
//
// The second has two phases. Phase 1 proves everything: the file's header and size, every segment,
// every variable's dtype and shape, and, if asked, the content. Phase 2 writes and cannot fail. An
// error in phase 1 leaves every variable as it was. Only for variables that hold nothing of use
// (`fresh`) are reading and looking at the content a part of phase 2, which may then fail.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "mapped_file.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "weights.h"

namespace yolotf {
namespace {

using tensorflow::DataType;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::Var;
using tensorflow::core::RefCountPtr;

REGISTER_OP("YolotfScatter")
    .Attr("N: int >= 1")
    .Attr("cast: bool = false")
    .Attr("verify: bool = true")
    .Attr("fresh: bool = false")
    .Input("path: string")
    .Input("header: string")
    .Input("expected_bytes: int64")
    .Input("plan: int64")
    .Input("resources: N * resource")
    .Output("stats: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* context) {
      context->set_output(0, context->Vector(4));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Moves the floats of a Darknet .weights file into resource variables.

path: the file.
header: the 16 or 20 bytes that the file must begin with: those the plan was made for.
expected_bytes: the size the file must have; negative if any will do that the plan fits into.
plan: [N, 13], row i says which floats variable i takes; see segments_from_rows in weights.h.
resources: the variables; all on the device of the op.
stats: [mapped (1) or copied (0), threads, nanoseconds of phase 1, nanoseconds of phase 2].
cast: float16 and bfloat16 variables are allowed.
verify: moving variances must be finite and not negative.
fresh: what the variables hold is of no use to anyone. They are written while the file is still
  being read; if it then turns out to be bad, they are left half written.
)doc");

REGISTER_OP("YolotfVariables")
    .Attr("N: int >= 1")
    .Attr("shapes: list(shape)")
    .Output("handles: N * resource")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Makes float32 resource variables whose memory is allocated, but holds whatever it held.

shapes: N of them.
handles: one a variable, which is freed with its last handle.
)doc");

// The numbers are there twice: in words, and in brackets for the Python side to read.
absl::Status to_status(const Error& error) {
  const std::string numbers =
      " [yolotf code=" + std::to_string(static_cast<int>(error.code)) +
      " segment=" + std::to_string(error.segment) + " axis=" + std::to_string(error.axis) +
      " offset=" + std::to_string(error.offset) + " expected=" + std::to_string(error.expected) +
      " found=" + std::to_string(error.found) + "]";
  return absl::InvalidArgumentError(describe(error) + numbers);
}

absl::Status to_status(const FileError& error) {
  std::string text;
  switch (error.code) {
    case FileCode::kOk:
      return absl::OkStatus();
    case FileCode::kSystem:
      text = std::strerror(error.system_error);
      break;
    case FileCode::kNotRegular:
      text = "not a regular file";
      break;
    case FileCode::kChanged:
      text = "the file was changed by another process while it was read";
      break;
  }
  return absl::InvalidArgumentError(
      text + " [yolotf file=" + std::to_string(static_cast<int>(error.code)) +
      " errno=" + std::to_string(error.system_error) + "]");
}

Dtype to_dtype(DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_FLOAT:
      return Dtype::kFloat32;
    case tensorflow::DT_HALF:
      return Dtype::kFloat16;
    case tensorflow::DT_BFLOAT16:
      return Dtype::kBfloat16;
    default:
      return Dtype::kOther;
  }
}

// Only what check_target reads; the memory is known when phase 2 begins.
Target to_target(const Var& variable, const Tensor& tensor) {
  Target target;
  target.dtype = to_dtype(tensor.dtype());
  target.initialized = variable.is_initialized && tensor.IsInitialized();
  target.rank = tensor.dims();
  for (int axis = 0; axis < std::min(tensor.dims(), 8); ++axis) {
    target.shape[axis] = static_cast<std::uint64_t>(tensor.dim_size(axis));
  }
  return target;
}

std::int64_t nanoseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() -
                                                              start)
      .count();
}

// Runs tasks on the op's own threads and, in finish(), on this one, which waits for tasks and not
// for threads: where the pool is busy with something else, this one does it all.
class Workers {
 public:
  Workers(OpKernelContext* context, std::function<void(std::size_t)> run_task)
      : pool_(context->device()->tensorflow_cpu_worker_threads()),
        state_(std::make_shared<State>(std::move(run_task))) {}

  // Tasks below `ready` may run; it only rises.
  void publish(std::size_t ready) {
    std::size_t added = 0;
    {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      added = ready - state_->ready;
      state_->ready = ready;
    }
    const int helpers = std::min(pool_->num_threads - 1, static_cast<int>(added));
    helpers_ = std::max(helpers_, helpers);
    for (int i = 0; i < helpers; ++i) {
      pool_->workers->Schedule([state = state_] { state->work(); });
    }
  }

  // Returns when all tasks that were published are done; how many threads may have taken part.
  std::int64_t finish() {
    state_->work();
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->changed.wait(lock, [this] { return state_->done == state_->ready; });
    return helpers_ + 1;
  }

 private:
  // Helpers that begin late find it alive, and nothing to do.
  struct State {
    explicit State(std::function<void(std::size_t)> task) : run_task(std::move(task)) {}
    void work() {
      std::unique_lock<std::mutex> lock(mutex);
      while (next < ready) {
        const std::size_t task = next++;
        lock.unlock();
        run_task(task);
        lock.lock();
        ++done;
      }
      changed.notify_all();
    }
    const std::function<void(std::size_t)> run_task;
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t ready = 0;
    std::size_t next = 0;
    std::size_t done = 0;
  };

  const tensorflow::DeviceBase::CpuWorkerThreads* pool_;
  std::shared_ptr<State> state_;
  int helpers_ = 0;
};

class ScatterOp : public OpKernel {
 public:
  explicit ScatterOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("cast", &cast_));
    OP_REQUIRES_OK(context, context->GetAttr("verify", &verify_));
    OP_REQUIRES_OK(context, context->GetAttr("fresh", &fresh_));
  }

  void Compute(OpKernelContext* context) override {
    // Not OP_REQUIRES_OK: it would also log what Python is about to explain.
    const absl::Status status = run_phases(context);
    if (!status.ok()) {
      context->SetStatus(status);
    }
  }

 private:
  absl::Status run_phases(OpKernelContext* context) const {
    const auto start = std::chrono::steady_clock::now();
    constexpr int kFirstResource = 4;
    const int variable_count = context->num_inputs() - kFirstResource;
    const Tensor& plan = context->input(3);
    if (plan.dims() != 2 || plan.dim_size(0) != variable_count ||
        plan.dim_size(1) != kPlanColumns) {
      return absl::InvalidArgumentError("plan must be [" + std::to_string(variable_count) + ", " +
                                        std::to_string(kPlanColumns) + "], is " +
                                        plan.shape().DebugString());
    }
    if (!tensorflow::TensorShapeUtils::IsScalar(context->input(0).shape()) ||
        !tensorflow::TensorShapeUtils::IsScalar(context->input(1).shape()) ||
        !tensorflow::TensorShapeUtils::IsScalar(context->input(2).shape())) {
      return absl::InvalidArgumentError("path, header and expected_bytes must be scalars");
    }
    const std::string path(context->input(0).scalar<tensorflow::tstring>()());
    const tensorflow::tstring& header = context->input(1).scalar<tensorflow::tstring>()();
    const std::int64_t expected_bytes = context->input(2).scalar<std::int64_t>()();
    const std::vector<Segment> segments =
        segments_from_rows(plan.flat<std::int64_t>().data(), variable_count);

    // Phase 1: the file. The size first: nothing is read of a file that does not fit anyway.
    Error error;
    FileError file_error;
    MappedFile file;
    if (!file.open(path.c_str(), &file_error)) {
      return to_status(file_error);
    }
    if (!check_segments(segments, header.size(), expected_bytes, file.size(), &error)) {
      return to_status(error);
    }
    std::vector<RefCountPtr<Var>> variables(segments.size());
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const absl::Status found = tensorflow::LookupResource(
          context, tensorflow::HandleFromInput(context, kFirstResource + static_cast<int>(i)),
          &variables[i]);
      if (absl::IsNotFound(found)) {
        error.code = Code::kUninitialized;
        error.segment = static_cast<std::int64_t>(i);
        return to_status(error);
      }
      TF_RETURN_IF_ERROR(found);
    }
    if (!(fresh_ ? file.begin(&file_error) : file.hold(&file_error)) ||
        !file.begins_with(header.data(), header.size(), &file_error)) {
      return to_status(file_error);
    }
    for (std::size_t i = 0; verify_ && !fresh_ && i < segments.size(); ++i) {
      if (!check_variance(file.bytes(), segments[i], static_cast<std::int64_t>(i), &error)) {
        return to_status(error);
      }
    }

    // Phase 1: the variables, locked from here on. By address, as the optimizer ops lock theirs.
    std::vector<std::size_t> order(variables.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = i;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::less<>()(variables[a]->mu(), variables[b]->mu());
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (variables[order[i]].get() == variables[order[i - 1]].get()) {
        error.code = Code::kShared;
        error.segment = static_cast<std::int64_t>(std::max(order[i - 1], order[i]));
        error.expected = std::min(order[i - 1], order[i]);
        return to_status(error);
      }
    }
    std::vector<tensorflow::mutex_lock> locks;
    locks.reserve(order.size());
    for (const std::size_t i : order) {
      locks.emplace_back(*variables[i]->mu());
    }
    std::vector<Target> targets;
    targets.reserve(segments.size());
    for (std::size_t i = 0; i < segments.size(); ++i) {
      targets.push_back(to_target(*variables[i], *variables[i]->tensor()));
      if (!check_target(segments[i], static_cast<std::int64_t>(i), targets[i], cast_, &error)) {
        return to_status(error);
      }
    }
    // A buffer that somebody else holds (a value read earlier, a constant the variable was made
    // from) is not written to: the variable gets a new one, and theirs keeps its numbers.
    std::vector<Tensor> fresh(segments.size());
    std::vector<std::size_t> swapped;
    for (std::size_t i = 0; i < segments.size(); ++i) {
      Tensor* tensor = variables[i]->tensor();
      if (!tensor->RefCountIsOne()) {
        tensorflow::AllocatorAttributes host;
        host.set_on_host(true);
        TF_RETURN_IF_ERROR(
            context->allocate_temp(tensor->dtype(), tensor->shape(), &fresh[i], host));
        tensor = &fresh[i];
        swapped.push_back(i);
      }
      targets[i].data = tensor->data();
      prefer_huge_pages(targets[i].data, tensor->TotalBytes());
    }
    Tensor* stats = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, TensorShape({4}), &stats));
    const std::int64_t checked = nanoseconds_since(start);

    // Phase 2.
    std::vector<Task> tasks = split(segments);
    Workers workers(context, [&](std::size_t i) {
      const Task& task = tasks[i];
      scatter(file.bytes(), segments[task.segment], targets[task.segment], task);
    });
    absl::Status status;
    if (fresh_) {
      status = publish_as_read(segments, &file, &tasks, &workers);
    } else {
      workers.publish(tasks.size());
    }
    const std::int64_t threads = workers.finish();
    TF_RETURN_IF_ERROR(status);
    for (const std::size_t i : swapped) {
      *variables[i]->tensor() = fresh[i];
    }
    auto out = stats->flat<std::int64_t>();
    out(0) = file.mapped() ? 1 : 0;
    out(1) = threads;
    out(2) = checked;
    out(3) = nanoseconds_since(start) - checked;
    return absl::OkStatus();
  }

  // Reads the file from its beginning, and lets `workers` have the tasks whose bytes are there.
  absl::Status publish_as_read(const std::vector<Segment>& segments, MappedFile* file,
                               std::vector<Task>* tasks, Workers* workers) const {
    constexpr std::uint64_t kPartBytes = 8 << 20;
    const auto end_of_task = [&](const Task& task) { return end_of(segments[task.segment]); };
    std::stable_sort(tasks->begin(), tasks->end(),
                     [&](const Task& a, const Task& b) { return end_of_task(a) < end_of_task(b); });
    std::uint64_t read = 0;
    std::size_t ready = 0;
    std::int64_t checked = -1;
    Error error;
    FileError file_error;
    while (ready < tasks->size()) {
      const std::uint64_t end = std::min(file->size(), read + kPartBytes);
      if (!file->read_in(read, end, &file_error)) {
        return to_status(file_error);
      }
      read = end;
      for (; ready < tasks->size() && end_of_task((*tasks)[ready]) <= read; ++ready) {
        const std::uint32_t segment = (*tasks)[ready].segment;
        if (verify_ && checked != segment &&
            !check_variance(file->bytes(), segments[segment], segment, &error)) {
          return to_status(error);
        }
        checked = segment;  // its tasks follow each other
      }
      workers->publish(ready);
    }
    if (file->mapped() && !file->unchanged()) {
      file_error.code = FileCode::kChanged;  // the lease was taken away meanwhile
    }
    return to_status(file_error);
  }

  bool cast_ = false;
  bool verify_ = true;
  bool fresh_ = false;
};

class VariablesOp : public OpKernel {
 public:
  explicit VariablesOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("shapes", &shapes_));
    OP_REQUIRES(context, static_cast<int>(shapes_.size()) == context->num_outputs(),
                absl::InvalidArgumentError("as many shapes as handles are needed"));
  }

  void Compute(OpKernelContext* context) override {
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      Tensor memory;
      OP_REQUIRES_OK(context, context->allocate_temp(tensorflow::DT_FLOAT, shapes_[i], &memory));
      Tensor* output = nullptr;
      OP_REQUIRES_OK(context,
                     context->allocate_output(static_cast<int>(i), TensorShape({}), &output));
      auto* variable = new Var(tensorflow::DT_FLOAT);
      *variable->tensor() = memory;
      variable->is_initialized = true;
      // As VarHandleOp does it: the handle owns the variable; ops that know variables by their
      // names only find it in the manager, which does not.
      auto handle = tensorflow::ResourceHandle::MakeRefCountingHandle(
          variable, context->device()->name(), {{tensorflow::DT_FLOAT, shapes_[i]}});
      OP_REQUIRES_OK(context, context->resource_manager()->CreateUnowned(handle.container(),
                                                                         handle.name(), variable));
      output->scalar<tensorflow::ResourceHandle>()() = std::move(handle);
    }
  }

 private:
  std::vector<TensorShape> shapes_;
};

REGISTER_KERNEL_BUILDER(Name("YolotfVariables").Device(tensorflow::DEVICE_CPU), VariablesOp);
REGISTER_KERNEL_BUILDER(Name("YolotfScatter")
                            .Device(tensorflow::DEVICE_CPU)
                            .HostMemory("path")
                            .HostMemory("header")
                            .HostMemory("expected_bytes")
                            .HostMemory("plan")
                            .HostMemory("stats"),
                        ScatterOp);

}  // namespace
}  // namespace yolotf
