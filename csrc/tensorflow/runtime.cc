#include "tensorflow/runtime.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <type_traits>
#include <utility>

namespace yolotf {
namespace {

// The functions of c_api.h, tf_status.h and tf_tensor.h that are used here.
struct Api {
  const char* (*TF_Version)();
  TF_Status* (*TF_NewStatus)();
  void (*TF_DeleteStatus)(TF_Status*);
  int (*TF_GetCode)(const TF_Status*);
  const char* (*TF_Message)(const TF_Status*);
  TF_Tensor* (*TF_NewTensor)(int, const std::int64_t*, int, void*, std::size_t,
                             void (*)(void*, std::size_t, void*), void*);
  void (*TF_DeleteTensor)(TF_Tensor*);
  int (*TF_TensorType)(const TF_Tensor*);
  int (*TF_NumDims)(const TF_Tensor*);
  std::int64_t (*TF_Dim)(const TF_Tensor*, int);
  void* (*TF_TensorData)(const TF_Tensor*);
  TF_Graph* (*TF_NewGraph)();
  void (*TF_DeleteGraph)(TF_Graph*);
  TF_OperationDescription* (*TF_NewOperation)(TF_Graph*, const char*, const char*);
  void (*TF_AddInput)(TF_OperationDescription*, Output);
  void (*TF_AddInputList)(TF_OperationDescription*, const Output*, int);
  void (*TF_SetAttrType)(TF_OperationDescription*, const char*, int);
  void (*TF_SetAttrInt)(TF_OperationDescription*, const char*, std::int64_t);
  void (*TF_SetAttrIntList)(TF_OperationDescription*, const char*, const std::int64_t*, int);
  void (*TF_SetAttrFloat)(TF_OperationDescription*, const char*, float);
  void (*TF_SetAttrBool)(TF_OperationDescription*, const char*, unsigned char);
  void (*TF_SetAttrString)(TF_OperationDescription*, const char*, const void*, std::size_t);
  void (*TF_SetAttrStringList)(TF_OperationDescription*, const char*, const void* const*,
                               const std::size_t*, int);
  void (*TF_SetAttrShape)(TF_OperationDescription*, const char*, const std::int64_t*, int);
  void (*TF_SetAttrTensor)(TF_OperationDescription*, const char*, TF_Tensor*, TF_Status*);
  TF_Operation* (*TF_FinishOperation)(TF_OperationDescription*, TF_Status*);
  int (*TF_OperationNumOutputs)(TF_Operation*);
  int (*TF_OperationOutputType)(Output);
  TF_SessionOptions* (*TF_NewSessionOptions)();
  void (*TF_DeleteSessionOptions)(TF_SessionOptions*);
  void (*TF_SetConfig)(TF_SessionOptions*, const void*, std::size_t, TF_Status*);
  TF_Session* (*TF_NewSession)(TF_Graph*, const TF_SessionOptions*, TF_Status*);
  void (*TF_CloseSession)(TF_Session*, TF_Status*);
  void (*TF_DeleteSession)(TF_Session*, TF_Status*);
  void (*TF_SessionRun)(TF_Session*, const TF_Buffer*, const Output*, TF_Tensor* const*, int,
                        const Output*, TF_Tensor**, int, const TF_Operation* const*, int,
                        TF_Buffer*, TF_Status*);

  // From TensorFlow's C++, which may change in any version; null if missing.
  bool (*is_mkl_enabled)();     // tensorflow::IsMKLEnabled, util/util.h
  bool* use_global_threadpool;  // tensorflow::LocalDevice, common_runtime/local_device.h
};

Api api = {};
std::atomic<bool> opened{false};  // a thread that reads true sees `api`

// During its lifetime, new sessions get threads of their own. If TensorFlow lacks the flag for
// that, all sessions of the process share the threads of the first one.
class PrivateThreadPools {
 public:
  PrivateThreadPools() : lock_(mutex()) {
    if (api.use_global_threadpool != nullptr) {
      previous_ = std::exchange(*api.use_global_threadpool, false);
    }
  }
  ~PrivateThreadPools() {
    if (api.use_global_threadpool != nullptr) {
      *api.use_global_threadpool = previous_;
    }
  }
  PrivateThreadPools(const PrivateThreadPools&) = delete;
  PrivateThreadPools& operator=(const PrivateThreadPools&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  const std::lock_guard<std::mutex> lock_;
  bool previous_ = true;
};

// Owns a TF_Status.
class Status {
 public:
  Status() : status_(api.TF_NewStatus()) {}
  ~Status() { api.TF_DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;

  TF_Status* get() const noexcept { return status_; }
  void copy_to(Failure* failure) const {
    failure->code = api.TF_GetCode(status_);
    failure->message = failure->failed() ? api.TF_Message(status_) : "";
  }

 private:
  TF_Status* status_;
};

std::string last_dl_error() {
  const char* text = dlerror();  // NOLINT(concurrency-mt-unsafe): of this thread in glibc
  return text != nullptr ? text : "dlopen failed";
}

}  // namespace

std::size_t element_size(DataType type) noexcept {
  switch (type) {
    case DataType::kFloat:
    case DataType::kInt32:
      return 4;
    case DataType::kDouble:
    case DataType::kInt64:
      return 8;
    case DataType::kUint8:
    case DataType::kBool:
      return 1;
  }
  return 0;
}

bool open_tensorflow(const std::string& framework_path, const std::string& cc_path,
                     std::string* error) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (opened) {
    return true;
  }
  // RTLD_LAZY saves a third of the time, as the libraries have a hundred thousand functions.
  // Libraries that do not match each other are still noticed here: virtual tables are missing. The
  // libraries are never closed: TensorFlow's threads run until the process ends.
  void* framework = dlopen(framework_path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (framework == nullptr) {
    *error = last_dl_error();
    return false;
  }
  void* cc = dlopen(cc_path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (cc == nullptr) {
    *error = last_dl_error();
    return false;
  }
  const auto symbol = [&](const char* name) {
    void* address = dlsym(cc, name);
    return address != nullptr ? address : dlsym(framework, name);
  };
  Api resolved = {};
  const char* missing = nullptr;
  const auto resolve = [&](auto* function, const char* name) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(symbol(name));
    if (*function == nullptr && missing == nullptr) {
      missing = name;
    }
  };
#define YOLOTF_RESOLVE(name) resolve(&resolved.name, #name)
  YOLOTF_RESOLVE(TF_Version);
  YOLOTF_RESOLVE(TF_NewStatus);
  YOLOTF_RESOLVE(TF_DeleteStatus);
  YOLOTF_RESOLVE(TF_GetCode);
  YOLOTF_RESOLVE(TF_Message);
  YOLOTF_RESOLVE(TF_NewTensor);
  YOLOTF_RESOLVE(TF_DeleteTensor);
  YOLOTF_RESOLVE(TF_TensorType);
  YOLOTF_RESOLVE(TF_NumDims);
  YOLOTF_RESOLVE(TF_Dim);
  YOLOTF_RESOLVE(TF_TensorData);
  YOLOTF_RESOLVE(TF_NewGraph);
  YOLOTF_RESOLVE(TF_DeleteGraph);
  YOLOTF_RESOLVE(TF_NewOperation);
  YOLOTF_RESOLVE(TF_AddInput);
  YOLOTF_RESOLVE(TF_AddInputList);
  YOLOTF_RESOLVE(TF_SetAttrType);
  YOLOTF_RESOLVE(TF_SetAttrInt);
  YOLOTF_RESOLVE(TF_SetAttrIntList);
  YOLOTF_RESOLVE(TF_SetAttrFloat);
  YOLOTF_RESOLVE(TF_SetAttrBool);
  YOLOTF_RESOLVE(TF_SetAttrString);
  YOLOTF_RESOLVE(TF_SetAttrStringList);
  YOLOTF_RESOLVE(TF_SetAttrShape);
  YOLOTF_RESOLVE(TF_SetAttrTensor);
  YOLOTF_RESOLVE(TF_FinishOperation);
  YOLOTF_RESOLVE(TF_OperationNumOutputs);
  YOLOTF_RESOLVE(TF_OperationOutputType);
  YOLOTF_RESOLVE(TF_NewSessionOptions);
  YOLOTF_RESOLVE(TF_DeleteSessionOptions);
  YOLOTF_RESOLVE(TF_SetConfig);
  YOLOTF_RESOLVE(TF_NewSession);
  YOLOTF_RESOLVE(TF_CloseSession);
  YOLOTF_RESOLVE(TF_DeleteSession);
  YOLOTF_RESOLVE(TF_SessionRun);
#undef YOLOTF_RESOLVE
  if (missing != nullptr) {
    *error = cc_path + ": no symbol " + missing;
    return false;
  }
  resolved.is_mkl_enabled = reinterpret_cast<decltype(resolved.is_mkl_enabled)>(
      symbol("_ZN10tensorflow12IsMKLEnabledEv"));
  resolved.use_global_threadpool =
      static_cast<bool*>(symbol("_ZN10tensorflow11LocalDevice22use_global_threadpool_E"));
  api = resolved;
  opened = true;
  return true;
}

std::string tensorflow_version() { return opened ? api.TF_Version() : ""; }

bool onednn_enabled() { return opened && api.is_mkl_enabled != nullptr && api.is_mkl_enabled(); }

Tensor::Tensor(DataType type, const std::vector<std::int64_t>& shape, const void* data,
               std::shared_ptr<void> owner) {
  std::size_t bytes = element_size(type);
  for (const std::int64_t extent : shape) {
    bytes *= static_cast<std::size_t>(extent);
  }
  auto* deallocator_arg = new std::shared_ptr<void>(std::move(owner));
  tensor_ = api.TF_NewTensor(
      static_cast<int>(type), shape.data(), static_cast<int>(shape.size()), const_cast<void*>(data),
      bytes, [](void*, std::size_t, void* arg) { delete static_cast<std::shared_ptr<void>*>(arg); },
      deallocator_arg);
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(tensor_, other.tensor_);
  return *this;
}

Tensor::~Tensor() {
  if (tensor_ != nullptr) {
    api.TF_DeleteTensor(tensor_);
  }
}

DataType Tensor::type() const { return static_cast<DataType>(api.TF_TensorType(tensor_)); }

std::vector<std::int64_t> Tensor::shape() const {
  std::vector<std::int64_t> shape;
  const int rank = api.TF_NumDims(tensor_);
  for (int axis = 0; axis < rank; ++axis) {
    shape.push_back(api.TF_Dim(tensor_, axis));
  }
  return shape;
}

void* Tensor::data() const { return api.TF_TensorData(tensor_); }

OperationBuilder::OperationBuilder(TF_Graph* graph, const char* kind, const char* name)
    : description_(api.TF_NewOperation(graph, kind, name)) {}

void OperationBuilder::add_input(Output output) { api.TF_AddInput(description_, output); }

void OperationBuilder::add_inputs(const std::vector<Output>& outputs) {
  api.TF_AddInputList(description_, outputs.data(), static_cast<int>(outputs.size()));
}

void OperationBuilder::set_type(const char* attribute, DataType value) {
  api.TF_SetAttrType(description_, attribute, static_cast<int>(value));
}

void OperationBuilder::set_int(const char* attribute, std::int64_t value) {
  api.TF_SetAttrInt(description_, attribute, value);
}

void OperationBuilder::set_ints(const char* attribute, const std::vector<std::int64_t>& values) {
  api.TF_SetAttrIntList(description_, attribute, values.data(), static_cast<int>(values.size()));
}

void OperationBuilder::set_float(const char* attribute, float value) {
  api.TF_SetAttrFloat(description_, attribute, value);
}

void OperationBuilder::set_bool(const char* attribute, bool value) {
  api.TF_SetAttrBool(description_, attribute, value ? 1 : 0);
}

void OperationBuilder::set_string(const char* attribute, const std::string& value) {
  api.TF_SetAttrString(description_, attribute, value.data(), value.size());
}

void OperationBuilder::set_strings(const char* attribute, const std::vector<std::string>& values) {
  std::vector<const void*> texts;
  std::vector<std::size_t> lengths;
  for (const std::string& value : values) {
    texts.push_back(value.data());
    lengths.push_back(value.size());
  }
  api.TF_SetAttrStringList(description_, attribute, texts.data(), lengths.data(),
                           static_cast<int>(values.size()));
}

void OperationBuilder::set_shape(const char* attribute, const std::vector<std::int64_t>& shape) {
  api.TF_SetAttrShape(description_, attribute, shape.data(), static_cast<int>(shape.size()));
}

void OperationBuilder::set_tensor(const char* attribute, const Tensor& tensor, Failure* failure) {
  const Status status;
  api.TF_SetAttrTensor(description_, attribute, tensor.get(), status.get());
  status.copy_to(failure);
}

TF_Operation* OperationBuilder::finish(Failure* failure) {
  const Status status;
  TF_Operation* operation = api.TF_FinishOperation(description_, status.get());
  status.copy_to(failure);
  return failure->failed() ? nullptr : operation;
}

Graph::Graph() : graph_(api.TF_NewGraph()) {}

Graph::~Graph() { api.TF_DeleteGraph(graph_); }

int Graph::output_count(TF_Operation* operation) { return api.TF_OperationNumOutputs(operation); }

DataType Graph::output_type(Output output) {
  return static_cast<DataType>(api.TF_OperationOutputType(output));
}

Session::Session(std::shared_ptr<Graph> graph, const std::string& config, Failure* failure)
    : graph_(std::move(graph)), process_(getpid()) {
  const Status status;
  TF_SessionOptions* options = api.TF_NewSessionOptions();
  api.TF_SetConfig(options, config.data(), config.size(), status.get());
  status.copy_to(failure);
  if (!failure->failed()) {
    const PrivateThreadPools private_pools;
    session_ = api.TF_NewSession(graph_->get(), options, status.get());
    status.copy_to(failure);
  }
  api.TF_DeleteSessionOptions(options);
}

Session::~Session() {
  if (getpid() != process_) {
    // The session's threads exist only in the parent process: waiting for them would hang or crash.
    // It is leaked, and so is its graph.
    new std::shared_ptr<Graph>(std::move(graph_));
  } else if (session_ != nullptr) {
    const Status status;
    api.TF_CloseSession(session_, status.get());
    api.TF_DeleteSession(session_, status.get());
  }
}

std::vector<Tensor> Session::run(const std::vector<Output>& inputs,
                                 const std::vector<TF_Tensor*>& values,
                                 const std::vector<Output>& outputs, Failure* failure) const {
  const Status status;
  std::vector<TF_Tensor*> results(outputs.size(), nullptr);
  api.TF_SessionRun(session_, nullptr, inputs.data(), values.data(),
                    static_cast<int>(inputs.size()), outputs.data(), results.data(),
                    static_cast<int>(outputs.size()), nullptr, 0, nullptr, status.get());
  status.copy_to(failure);
  std::vector<Tensor> tensors;
  if (!failure->failed()) {
    tensors.reserve(results.size());
    for (TF_Tensor* tensor : results) {
      tensors.emplace_back(tensor);
    }
  }
  return tensors;
}

}  // namespace yolotf
