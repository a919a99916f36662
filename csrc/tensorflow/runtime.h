// TensorFlow's kernels through its C API, without its Python and without linking it.
//
// The C API (tensorflow/c/c_api.h, c_api_experimental.h is not used) keeps its binary interface
// from one minor version to the next, so one build serves them all. The two libraries of an
// installed TensorFlow are opened when they are asked for; a process that has imported TensorFlow
// gets the very same ones. They are opened with RTLD_LOCAL: with their symbols global, a later
// `import tensorflow` crashes.
//
// This file knows no Python. Nothing throws but what the standard library does; what TensorFlow
// refuses comes back as a Failure.
#ifndef YOLOTF_CSRC_TENSORFLOW_RUNTIME_H_
#define YOLOTF_CSRC_TENSORFLOW_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// As in c_api.h: opaque there, too.
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

// TF_DataType of tf_datatype.h, those that are used.
enum class DataType : int {
  kFloat = 1,
  kDouble = 2,
  kInt32 = 3,
  kUint8 = 4,
  kInt64 = 9,
  kBool = 10,
};

// Bytes of one element; 0 for a type that is not used here.
std::size_t element_size(DataType type) noexcept;

// Why TensorFlow refused something: TF_Code of tf_status.h and its own words.
struct Failure {
  int code = 0;
  std::string message;

  bool failed() const noexcept { return code != 0; }
};

// Opens libtensorflow_framework and libtensorflow_cc and resolves what is used of them. Returns
// false and says in *error which file is missing or lacks what. Once it has returned true, further
// calls do nothing.
bool open_tensorflow(const std::string& framework_path, const std::string& cc_path,
                     std::string* error);

// TensorFlow's version; empty before open_tensorflow.
std::string tensorflow_version();

// Whether TensorFlow computes with oneDNN on this processor, by its own judgement; false where it
// cannot be asked.
bool onednn_enabled();

// A tensor over memory that `owner` keeps alive, not copied if it is aligned to 64 bytes.
// TensorFlow may let go of it on any thread.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DataType type, const std::vector<std::int64_t>& shape, const void* data,
         std::shared_ptr<void> owner);
  explicit Tensor(TF_Tensor* taken) : tensor_(taken) {}
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

// An operation that is being described; `finish` adds it to the graph.
class Description {
 public:
  Description(TF_Graph* graph, const char* kind, const char* name);

  void input(Output output);
  void inputs(const std::vector<Output>& outputs);
  void set_type(const char* attribute, DataType value);
  void set_int(const char* attribute, std::int64_t value);
  void set_ints(const char* attribute, const std::vector<std::int64_t>& values);
  void set_float(const char* attribute, float value);
  void set_bool(const char* attribute, bool value);
  void set_string(const char* attribute, const std::string& value);
  void set_strings(const char* attribute, const std::vector<std::string>& values);
  void set_shape(const char* attribute, const std::vector<std::int64_t>& shape);
  void set_tensor(const char* attribute, const Tensor& tensor, Failure* failure);

  // Null if TensorFlow refuses it.
  TF_Operation* finish(Failure* failure);

 private:
  TF_OperationDescription* description_;
};

// A graph that only grows.
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

// Runs a graph; safe from many threads at once. In a process that was forked from its own it can
// only be destroyed.
class Session {
 public:
  // With threads of its own, as many as config, a serialized ConfigProto, says. Check failure
  // before use.
  Session(std::shared_ptr<Graph> graph, const std::string& config, Failure* failure);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // values[i] is fed as inputs[i]; the answer has one tensor for each of `outputs`.
  std::vector<Tensor> run(const std::vector<Output>& inputs, const std::vector<TF_Tensor*>& values,
                          const std::vector<Output>& outputs, Failure* failure) const;

 private:
  std::shared_ptr<Graph> graph_;
  TF_Session* session_ = nullptr;
  int process_;  // that has its threads
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_TENSORFLOW_RUNTIME_H_
