// The Python module yolotf._runtime: graphs, sessions and tensors of runtime.h, with NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "python/without_gil.h"
#include "tensorflow/runtime.h"

namespace py = pybind11;

namespace yolotf {
namespace {

// Indexed by TF_Code of tf_status.h.
constexpr std::array<const char*, 17> kCodeNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

// Registered by Python: returns the exception for a message of TensorFlow and the name of its code.
py::object& exception_factory() {
  static py::object* factory = new py::object();  // never destroyed: the interpreter ends first
  return *factory;
}

void set_exception_factory(py::function factory) { exception_factory() = std::move(factory); }

// Raises the exception for a failure; RuntimeError if no factory is registered.
void check(const Failure& failure) {
  if (!failure.failed()) {
    return;
  }
  const auto number = static_cast<std::size_t>(failure.code);
  const char* code = number < kCodeNames.size() ? kCodeNames[number] : kCodeNames[2];
  if (!exception_factory()) {
    throw std::runtime_error(std::string(code) + ": " + failure.message);
  }
  const py::str message(PyUnicode_DecodeUTF8(
      failure.message.data(), static_cast<Py_ssize_t>(failure.message.size()), "backslashreplace"));
  const py::object error = exception_factory()(message, code);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

// Whether Python is shutting down: only the finalizing thread can get the GIL then.
bool is_ending() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

void require_open() {
  if (tensorflow_version().empty()) {
    throw py::value_error("TensorFlow's libraries are not open: open() comes first");
  }
}

DataType type_of(const py::array& array) {
  const bool native = array.dtype().attr("isnative").cast<bool>();
  const char kind = native ? array.dtype().kind() : '\0';
  const auto size = array.dtype().itemsize();
  if (kind == 'f' && size == 4) {
    return DataType::kFloat;
  }
  if (kind == 'f' && size == 8) {
    return DataType::kDouble;
  }
  if (kind == 'i' && size == 4) {
    return DataType::kInt32;
  }
  if (kind == 'i' && size == 8) {
    return DataType::kInt64;
  }
  if (kind == 'u' && size == 1) {
    return DataType::kUint8;
  }
  if (kind == 'b') {
    return DataType::kBool;
  }
  throw py::type_error("no tensor for arrays of " + std::string(py::str(array.dtype())));
}

const char* numpy_name(DataType type) {
  switch (type) {
    case DataType::kFloat:
      return "float32";
    case DataType::kDouble:
      return "float64";
    case DataType::kInt32:
      return "int32";
    case DataType::kUint8:
      return "uint8";
    case DataType::kInt64:
      return "int64";
    case DataType::kBool:
      return "bool";
  }
  throw py::type_error("no array for tensors of type " + std::to_string(static_cast<int>(type)));
}

// Wraps the array's memory; the tensor keeps the array alive.
Tensor to_tensor(const py::array& array) {
  if ((array.flags() & py::array::c_style) == 0) {
    throw py::value_error("arrays must be contiguous");
  }
  const std::vector<std::int64_t> shape(array.shape(), array.shape() + array.ndim());
  // TensorFlow releases it on its own threads, possibly after Python has ended.
  std::shared_ptr<void> owner(array.inc_ref().ptr(), [](void* object) {
    if (Py_IsInitialized() != 0 && (!is_ending() || PyGILState_Check() != 0)) {
      const py::gil_scoped_acquire acquire;
      Py_DECREF(static_cast<PyObject*>(object));
    }
  });
  return Tensor(type_of(array), shape, array.data(), std::move(owner));
}

// Wraps the tensor's memory; the array keeps the tensor alive.
py::array to_array(Tensor tensor) {
  auto* kept = new Tensor(std::move(tensor));
  const py::capsule owner(kept, [](void* held) { delete static_cast<Tensor*>(held); });
  return py::array(py::dtype(numpy_name(kept->type())), kept->shape(), kept->data(), owner);
}

// Arrays that are fed to many runs, converted once.
class Tensors {
 public:
  explicit Tensors(const std::vector<py::array>& arrays) {
    require_open();
    tensors_.reserve(arrays.size());
    for (const py::array& array : arrays) {
      tensors_.push_back(to_tensor(array));
    }
  }
  const std::vector<Tensor>& tensors() const noexcept { return tensors_; }

 private:
  std::vector<Tensor> tensors_;
};

// A graph for Python, which refers to outputs by number.
class PythonGraph {
 public:
  PythonGraph() {
    require_open();
    graph_ = std::make_shared<Graph>();
  }

  // inputs: numbers and lists of numbers; attributes: name -> (kind, value).
  std::vector<std::pair<std::int64_t, int>> add(const std::string& kind, const std::string& name,
                                                const py::list& inputs,
                                                const py::dict& attributes) {
    Failure failure;
    Description description(graph_->get(), kind.c_str(), name.c_str());
    for (const py::handle input : inputs) {
      if (py::isinstance<py::list>(input)) {
        description.inputs(outputs(input.cast<std::vector<std::int64_t>>()));
      } else {
        description.input(output(input.cast<std::int64_t>()));
      }
    }
    for (const auto& [key, value] : attributes) {
      const auto pair = value.cast<py::tuple>();
      set(&description, key.cast<std::string>(), pair[0].cast<std::string>(), pair[1], &failure);
      check(failure);
    }
    TF_Operation* operation = description.finish(&failure);
    check(failure);
    std::vector<std::pair<std::int64_t, int>> added;
    for (int i = 0; i < Graph::output_count(operation); ++i) {
      outputs_.push_back(Output{operation, i});
      added.emplace_back(static_cast<std::int64_t>(outputs_.size()) - 1,
                         static_cast<int>(Graph::output_type(outputs_.back())));
    }
    return added;
  }

  Output output(std::int64_t number) const { return outputs_.at(static_cast<std::size_t>(number)); }

  std::vector<Output> outputs(const std::vector<std::int64_t>& numbers) const {
    std::vector<Output> found;
    found.reserve(numbers.size());
    for (const std::int64_t number : numbers) {
      found.push_back(output(number));
    }
    return found;
  }

  const std::shared_ptr<Graph>& graph() const noexcept { return graph_; }

 private:
  static void set(Description* description, const std::string& name, const std::string& kind,
                  const py::object& value, Failure* failure) {
    const char* key = name.c_str();
    if (kind == "type") {
      description->set_type(key, static_cast<DataType>(value.cast<int>()));
    } else if (kind == "int") {
      description->set_int(key, value.cast<std::int64_t>());
    } else if (kind == "ints") {
      description->set_ints(key, value.cast<std::vector<std::int64_t>>());
    } else if (kind == "float") {
      description->set_float(key, value.cast<float>());
    } else if (kind == "bool") {
      description->set_bool(key, value.cast<bool>());
    } else if (kind == "string") {
      description->set_string(key, value.cast<std::string>());
    } else if (kind == "strings") {
      description->set_strings(key, value.cast<std::vector<std::string>>());
    } else if (kind == "shape") {
      description->set_shape(key, value.cast<std::vector<std::int64_t>>());
    } else if (kind == "tensor") {
      description->set_tensor(key, to_tensor(value.cast<py::array>()), failure);
    } else {
      throw py::value_error("no attributes of kind " + kind);
    }
  }

  std::shared_ptr<Graph> graph_;
  std::vector<Output> outputs_;
};

// Creates a session. Destroying it waits for threads that may be waiting for the GIL.
std::shared_ptr<Session> new_session(const PythonGraph& graph, const std::string& config) {
  Failure failure;
  std::unique_ptr<Session> session;
  {
    const WithoutGil released;
    session = std::make_unique<Session>(graph.graph(), config, &failure);
  }
  check(failure);
  return {session.release(), [](Session* ended) {
            const WithoutGil released;
            delete ended;
          }};
}

// The feeds and fetches of a session run, prepared once.
class Call {
 public:
  Call(std::shared_ptr<Session> session, const PythonGraph& graph,
       const std::vector<std::int64_t>& inputs, const std::vector<std::int64_t>& outputs)
      : session_(std::move(session)),
        inputs_(graph.outputs(inputs)),
        outputs_(graph.outputs(outputs)) {}

  // Feeds the arrays to the first inputs, and the tensors to the following ones.
  std::vector<py::array> run(const std::vector<py::array>& arrays, const Tensors* constants) const {
    std::vector<Tensor> fed;
    fed.reserve(arrays.size());
    for (const py::array& array : arrays) {
      fed.push_back(to_tensor(array));
    }
    std::vector<TF_Tensor*> values;
    values.reserve(inputs_.size());
    for (const Tensor& tensor : fed) {
      values.push_back(tensor.get());
    }
    if (constants != nullptr) {
      for (const Tensor& tensor : constants->tensors()) {
        values.push_back(tensor.get());
      }
    }
    if (values.size() != inputs_.size()) {
      throw py::value_error(std::to_string(values.size()) + " arrays for " +
                            std::to_string(inputs_.size()) + " inputs");
    }
    Failure failure;
    std::vector<Tensor> found;
    {
      const WithoutGil released;
      found = session_->run(inputs_, values, outputs_, &failure);
    }
    check(failure);
    std::vector<py::array> answer;
    answer.reserve(found.size());
    for (Tensor& tensor : found) {
      answer.push_back(to_array(std::move(tensor)));
    }
    return answer;
  }

 private:
  std::shared_ptr<Session> session_;
  std::vector<Output> inputs_;
  std::vector<Output> outputs_;
};

void open(const std::string& framework, const std::string& cc) {
  std::string error;
  bool done = false;
  {
    const WithoutGil released;
    done = open_tensorflow(framework, cc, &error);
  }
  if (!done) {
    throw py::import_error(error);
  }
}

}  // namespace
}  // namespace yolotf

PYBIND11_MODULE(_runtime, module) {
  using namespace pybind11::literals;
  module.doc() = "TensorFlow's kernels through its C API, without TensorFlow's Python.";
  yolotf::WithoutGil::prepare();
  module.def("set_exception_factory", &yolotf::set_exception_factory, "factory"_a,
             "Registers factory(message, code), which returns the exception for what TensorFlow "
             "refuses; `code` is as INVALID_ARGUMENT.");
  module.def("set_wait_at_end", &yolotf::WithoutGil::set_wait, "seconds"_a,
             "How long Python's end waits for networks that run in daemon threads.");
  module.def(
      "open", &yolotf::open, "framework"_a, "cc"_a,
      "Opens the two libraries of a TensorFlow, by their paths; ImportError if one is missing "
      "or lacks something.");
  module.def("version", &yolotf::tensorflow_version, "TensorFlow's version; empty before open().");
  module.def("onednn_enabled", &yolotf::onednn_enabled,
             "Whether TensorFlow computes with oneDNN on this processor.");
  py::class_<yolotf::Tensors>(module, "Tensors", "Arrays that are fed to many runs.")
      .def(py::init<const std::vector<py::array>&>(), "arrays"_a);
  py::class_<yolotf::PythonGraph>(module, "Graph", "A graph that only grows.")
      .def(py::init<>())
      .def("add", &yolotf::PythonGraph::add, "kind"_a, "name"_a, "inputs"_a, "attributes"_a,
           "Adds an operation. Inputs are numbers of outputs or lists of them, attributes are "
           "name -> (kind, value). Returns (number, data type) of each output.");
  py::class_<yolotf::Session, std::shared_ptr<yolotf::Session>>(
      module, "Session", "Runs a graph, with threads of its own.")
      .def(py::init(&yolotf::new_session), "graph"_a, "config"_a);
  py::class_<yolotf::Call>(module, "Call", "What a run of a session feeds and asks for.")
      .def(py::init<std::shared_ptr<yolotf::Session>, const yolotf::PythonGraph&,
                    const std::vector<std::int64_t>&, const std::vector<std::int64_t>&>(),
           "session"_a, "graph"_a, "inputs"_a, "outputs"_a)
      .def(
          "run", &yolotf::Call::run, "arrays"_a, "constants"_a = nullptr,
          "Feeds the arrays as the first inputs and the Tensors as those behind them; an array for "
          "each output. From any thread.");
}
