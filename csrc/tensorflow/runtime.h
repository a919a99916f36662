// Runs graphs with TensorFlow's kernels through its C API, without TensorFlow's Python.
//
// TensorFlow is not linked: open_tensorflow opens the two libraries of an installed TensorFlow, or
// finds those that the process has already imported. The C API (tensorflow/c/c_api.h, without
// c_api_experimental.h) keeps its binary interface from one minor version to the next, so one build
// serves them all. The libraries are opened with RTLD_LOCAL: if their symbols were global, a later
// `import tensorflow` would crash.
//
// This file knows no Python. An error of TensorFlow is returned as a Failure; only the standard
// library throws.
#ifndef YOLOTF_CSRC_TENSORFLOW_RUNTIME_H_
#define YOLOTF_CSRC_TENSORFLOW_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Declared in c_api.h, opaque there as well.
struct TF_Status;
struct TF_Tensor;
struct TF_Graph;
struct TF_Operation;
struct TF_OperationDescription;
struct TF_Session;
struct TF_SessionOptions;
struct TF_Buffer;

namespace yolotf {

// TF_Output of c_api.h.
struct Output {
  TF_Operation* operation = nullptr;
  int index = 0;
};

// The TF_DataTypes of tf_datatype.h that are used here.
enum class DataType : int {
  kFloat = 1,
  kDouble = 2,
  kInt32 = 3,
  kUint8 = 4,
  kInt64 = 9,
  kBool = 10,
};

// Bytes of one element; 0 for a type that is not in DataType.
std::size_t element_size(DataType type) noexcept;

// An error of TensorFlow: TF_Code of tf_status.h and TensorFlow's message.
struct Failure {
  int code = 0;
  std::string message;

  bool failed() const noexcept { return code != 0; }
};

// Opens libtensorflow_framework and libtensorflow_cc and looks up the functions used here. If a
// file or a function is missing, returns false and names it in *error. After the first success,
// further calls do nothing and return true.
bool open_tensorflow(const std::string& framework_path, const std::string& cc_path,
                     std::string* error);

// TensorFlow's version; empty before open_tensorflow.
std::string tensorflow_version();

// Whether TensorFlow uses oneDNN on this processor; false if this TensorFlow does not export the
// function that says so.
bool onednn_enabled();

// A tensor. The second constructor wraps memory that `owner` keeps alive: TensorFlow copies it
// unless it is aligned to 64 bytes, and may release `owner` on any thread.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DataType type, const std::vector<std::int64_t>& shape, const void* data,
         std::shared_ptr<void> owner);
  explicit Tensor(TF_Tensor* owned) : tensor_(owned) {}
  Tensor(Tensor&& other) noexcept : tensor_(other.tensor_) { other.tensor_ = nullptr; }
  Tensor& operator=(Tensor&& other) noexcept;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor();

  TF_Tensor* get() const noexcept { return tensor_; }
  DataType type() const;
  std::vector<std::int64_t> shape() const;
  void* data() const;

 private:
  TF_Tensor* tensor_ = nullptr;
};

// Builds an operation; `finish` adds it to the graph.
class OperationBuilder {
 public:
  OperationBuilder(TF_Graph* graph, const char* kind, const char* name);

  void add_input(Output output);
  void add_inputs(const std::vector<Output>& outputs);
  void set_type(const char* attribute, DataType value);
  void set_int(const char* attribute, std::int64_t value);
  void set_ints(const char* attribute, const std::vector<std::int64_t>& values);
  void set_float(const char* attribute, float value);
  void set_bool(const char* attribute, bool value);
  void set_string(const char* attribute, const std::string& value);
  void set_strings(const char* attribute, const std::vector<std::string>& values);
  void set_shape(const char* attribute, const std::vector<std::int64_t>& shape);
  void set_tensor(const char* attribute, const Tensor& tensor, Failure* failure);

  // Returns null after a failure.
  TF_Operation* finish(Failure* failure);

 private:
  TF_OperationDescription* description_;
};

// A graph. Operations can be added, but not removed.
class Graph {
 public:
  Graph();
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  TF_Graph* get() const noexcept { return graph_; }
  static int output_count(TF_Operation* operation);
  static DataType output_type(Output output);

 private:
  TF_Graph* graph_;
};

// Runs a graph, from any number of threads at once. In a child process forked after its creation,
// a session may only be destroyed.
class Session {
 public:
  // config: a serialized ConfigProto; the session has threads of its own, as many as config says.
  // Check *failure before use.
  Session(std::shared_ptr<Graph> graph, const std::string& config, Failure* failure);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Feeds values[i] as inputs[i] and returns a tensor for each of `outputs`; none after a failure.
  std::vector<Tensor> run(const std::vector<Output>& inputs, const std::vector<TF_Tensor*>& values,
                          const std::vector<Output>& outputs, Failure* failure) const;

 private:
  std::shared_ptr<Graph> graph_;
  TF_Session* session_ = nullptr;
  int process_;  // in which it was created, which has its threads
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_TENSORFLOW_RUNTIME_H_
