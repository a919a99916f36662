// The TensorFlow ops: YolotfScatter loads a .weights file into variables, YolotfVariables creates
// variables for it. load.h implements the load; this file adds TensorFlow's variables and threads.
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <iterator>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "weights/load.h"
#include "weights/mapped_file.h"
#include "weights/plan.h"

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

// The length of `result` of YolotfScatter, whose elements are kResultFields.
constexpr std::int64_t kResultLength = kResultFields.size();

REGISTER_OP("YolotfScatter")
    .Attr("cast: bool = false")
    .Attr("verify: bool = true")
    .Attr("contents_disposable: bool = false")
    .Input("path: string")
    .Input("header: string")
    .Input("expected_bytes: int64")
    .Input("plan: int64")
    .Input("resources: resource")
    .Output("result: int64")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* context) {
      context->set_output(0, context->Vector(kResultLength));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Loads the floats of a Darknet .weights file into resource variables.

path: the file.
header: the 16 or 20 bytes with which the file must begin: those that the plan was made for.
expected_bytes: the size that the file must have; negative for any size that the plan fits into.
plan: [variables, 13]; row i says which floats variable i receives, see segments_from_rows in plan.h.
resources: [variables], the variables' handles, on the op's device. They are one tensor, as separate
  inputs would add a tenth to the time of a load.
cast: allow float16 and bfloat16 variables.
verify: check the numbers for damage, see damage.h.
contents_disposable: the variables' values are not needed. Variables whose memory nothing else uses are
  overwritten; if the file then turns out to be damaged, they are left partly written.
result: the fields kResultFields of load.h. The op succeeds even if the file or plan is rejected:
  TensorFlow logs ops that fail.
)doc");

REGISTER_OP("YolotfVariables")
    .Attr("N: int >= 1")
    .Attr("shapes: list(shape)")
    .Output("handles: N * resource")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Creates float32 resource variables with uninitialized memory.

shapes: of the N variables.
handles: of the variables; a variable is freed with its last handle.
)doc");

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

// Sets everything but the data, which begin() sets.
Target to_target(const Var& variable, const Tensor& tensor) {
  Target target;
  target.dtype = to_dtype(tensor.dtype());
  target.initialized = variable.is_initialized && tensor.IsInitialized();
  target.rank = tensor.dims();
  for (int axis = 0; axis < std::min(tensor.dims(), kMaxTargetRank); ++axis) {
    target.shape[axis] = static_cast<std::uint64_t>(tensor.dim_size(axis));
  }
  return target;
}

// Threads of TensorFlow's inter-op pool.
class PoolThreads : public Threads {
 public:
  explicit PoolThreads(OpKernelContext* context)
      : pool_(context->device()->tensorflow_cpu_worker_threads()) {}
  int max_helpers() const override { return pool_->num_threads - 1; }
  void start(std::function<void()> work) override { pool_->workers->Schedule(std::move(work)); }

 private:
  const tensorflow::DeviceBase::CpuWorkerThreads* pool_;
};

class ResourceVariables : public Variables {
 public:
  // If `disposable`, the load writes into the variables' own memory and keeps them locked. If not,
  // it writes into new memory, and locks the variables only to check them and to swap the memory.
  ResourceVariables(OpKernelContext* context, const Tensor& handles, bool disposable)
      : context_(context),
        handles_(handles),
        disposable_(disposable),
        variables_(static_cast<std::size_t>(handles.NumElements())),
        new_tensors_(variables_.size()) {}

  // Why lock() or begin() returned false, if TensorFlow failed.
  const absl::Status& status() const { return status_; }

  bool lock(std::vector<Target>* targets, Error* error) override {
    if (lock_order_.empty() && !find_variables(error)) {
      return false;
    }
    if (locks_.empty()) {
      locks_.reserve(lock_order_.size());
      for (const std::size_t i : lock_order_) {
        locks_.emplace_back(*variables_[i]->mu());
      }
    }
    for (const RefCountPtr<Var>& variable : variables_) {
      targets->push_back(to_target(*variable, *variable->tensor()));
    }
    return true;
  }

  bool begin(std::vector<Target>* targets) override {
    for (std::size_t i = 0; i < variables_.size(); ++i) {
      Tensor* tensor = variables_[i]->tensor();
      // Memory that others refer to (a value that was read, the constant that initialized the
      // variable) is never overwritten.
      if (!disposable_ || !tensor->RefCountIsOne()) {
        tensorflow::AllocatorAttributes host;
        host.set_on_host(true);
        status_ = context_->allocate_temp(tensor->dtype(), tensor->shape(), &new_tensors_[i], host);
        if (!status_.ok()) {
          return false;
        }
        tensor = &new_tensors_[i];
        replaced_.push_back(i);
      }
      (*targets)[i].data = tensor->data();
      prefer_huge_pages(tensor->data(), tensor->TotalBytes());
    }
    if (!disposable_) {
      locks_.clear();
    }
    return true;
  }

  void commit() override {
    for (const std::size_t i : replaced_) {
      std::swap(*variables_[i]->tensor(), new_tensors_[i]);
    }
    locks_.clear();  // before the old memory is freed
  }

 private:
  bool find_variables(Error* error) {
    const auto handles = handles_.flat<tensorflow::ResourceHandle>();
    for (std::size_t i = 0; i < variables_.size(); ++i) {
      status_ = tensorflow::LookupResource(context_, handles(static_cast<std::int64_t>(i)),
                                           &variables_[i]);
      if (absl::IsNotFound(status_)) {
        status_ = absl::OkStatus();
        error->code = Code::kUninitialized;
        error->segment = static_cast<std::int64_t>(i);
        return false;
      }
      if (!status_.ok()) {
        return false;
      }
    }
    // By address, like optimizer ops, to avoid deadlocks.
    std::vector<std::size_t> order(variables_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::less<>()(variables_[a]->mu(), variables_[b]->mu());
    });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (variables_[order[i]].get() == variables_[order[i - 1]].get()) {
        error->code = Code::kShared;
        error->segment = static_cast<std::int64_t>(std::max(order[i - 1], order[i]));
        error->expected = std::min(order[i - 1], order[i]);
        return false;
      }
    }
    lock_order_ = std::move(order);
    return true;
  }

  OpKernelContext* context_;
  const Tensor& handles_;
  const bool disposable_;
  std::vector<RefCountPtr<Var>> variables_;
  std::vector<std::size_t> lock_order_;
  std::vector<Tensor> new_tensors_;  // after commit(), the old ones
  std::vector<tensorflow::mutex_lock> locks_;
  std::vector<std::size_t> replaced_;  // variables that get new memory
  absl::Status status_;
};

class ScatterOp : public OpKernel {
 public:
  explicit ScatterOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("cast", &cast_));
    OP_REQUIRES_OK(context, context->GetAttr("verify", &verify_));
    OP_REQUIRES_OK(context, context->GetAttr("contents_disposable", &contents_disposable_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& plan = context->input(3);
    const Tensor& handles = context->input(4);
    OP_REQUIRES(context, tensorflow::TensorShapeUtils::IsVector(handles.shape()),
                absl::InvalidArgumentError("resources must be a vector, is " +
                                           handles.shape().DebugString()));
    const std::int64_t variable_count = handles.NumElements();
    OP_REQUIRES(
        context,
        plan.dims() == 2 && plan.dim_size(0) == variable_count && plan.dim_size(1) == kPlanColumns,
        absl::InvalidArgumentError("plan must be [" + std::to_string(variable_count) + ", " +
                                   std::to_string(kPlanColumns) + "], is " +
                                   plan.shape().DebugString()));
    for (int i = 0; i < 3; ++i) {
      OP_REQUIRES(context, tensorflow::TensorShapeUtils::IsScalar(context->input(i).shape()),
                  absl::InvalidArgumentError("path, header and expected_bytes must be scalars"));
    }
    LoadRequest request;
    request.path = context->input(0).scalar<tensorflow::tstring>()();
    request.header = context->input(1).scalar<tensorflow::tstring>()();
    request.expected_bytes = context->input(2).scalar<std::int64_t>()();
    request.segments = segments_from_rows(plan.flat<std::int64_t>().data(), variable_count);
    request.cast = cast_;
    request.verify = verify_;
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({kResultLength}), &output));

    ResourceVariables variables(context, handles, contents_disposable_);
    PoolThreads threads(context);
    LoadStats stats;
    LoadError error;
    load(request, &variables, &threads, &stats, &error);
    if (absl::IsResourceExhausted(variables.status())) {
      error.file = {FileCode::kSystem, ENOMEM};
    } else {
      OP_REQUIRES_OK(context, variables.status());
    }
    const auto number = [](auto value) { return static_cast<std::int64_t>(value); };
    const std::int64_t result[kResultLength] = {
        number(error.error.code),   number(error.file.code), error.file.system_error,
        error.error.segment,        error.error.axis,        error.error.role,
        number(error.error.offset), number(error.error.end), number(error.error.expected),
        number(error.error.found),  stats.mapped ? 1 : 0,    stats.threads,
        stats.checking_ns,          stats.writing_ns};
    std::copy(std::begin(result), std::end(result), output->flat<std::int64_t>().data());
  }

 private:
  bool cast_ = false;
  bool verify_ = true;
  bool contents_disposable_ = false;
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
      // As in VarHandleOp, the handle owns the variable. The resource manager, which does not,
      // serves ops that look up variables by name.
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
                            .HostMemory("resources")
                            .HostMemory("result"),
                        ScatterOp);

}  // namespace
}  // namespace yolotf
