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

// By value of TF_Code of tf_status.h.
constexpr std::array<const char*, 17> kCodeNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

// Set by Python: a function that returns the exception for a message of TensorFlow and the name of
// its code.
py::object& exception_factory() {
  static py::object* factory = new py::object();  // never destroyed: the interpreter ends first
  return *factory;
}

void set_exception_factory(py::function factory) { exception_factory() = std::move(factory); }

// Raises the exception for a failure; RuntimeError if there is no factory.
void check(const Failure& failure) {
  if (!failure.failed()) {
    return;
  }
  const auto index = static_cast<std::size_t>(failure.code);
  const char* code = index < kCodeNames.size() ? kCodeNames[index] : "UNKNOWN";
  if (!exception_factory()) {
    throw std::runtime_error(std::string(code) + ": " + failure.message);
  }
  const py::str message(PyUnicode_DecodeUTF8(
      failure.message.data(), static_cast<Py_ssize_t>(failure.message.size()), "backslashreplace"));
  const py::object error = exception_factory()(message, code);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

// Whether Python is shutting down; only the finalizing thread can get the GIL then.
bool is_finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

void require_open() {
  if (tensorflow_version().empty()) {
    throw py::value_error("TensorFlow's libraries are not open; call open() first");
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
  throw py::type_error("TensorFlow has no tensors for arrays of " +
                       std::string(py::str(array.dtype())));
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
  throw py::type_error("NumPy has no arrays for tensors of type " +
                       std::to_string(static_cast<int>(type)));
}

// Wraps the array's memory; the tensor keeps the array alive.
Tensor to_tensor(const py::array& array) {
  if ((array.flags() & py::array::c_style) == 0) {
    throw py::value_error("arrays must be contiguous");
  }
  const std::vector<std::int64_t> shape(array.shape(), array.shape() + array.ndim());
  // TensorFlow releases it on any thread, possibly after Python has ended.
  std::shared_ptr<void> owner(array.inc_ref().ptr(), [](void* object) {
    WithoutGil::finalize([object] {
      if (Py_IsInitialized() != 0 && (!is_finalizing() || PyGILState_Check() != 0)) {
        const py::gil_scoped_acquire acquire;
        Py_DECREF(static_cast<PyObject*>(object));
      }
    });
  });
  return Tensor(type_of(array), shape, array.data(), std::move(owner));
}

// Wraps the tensor's memory; the array keeps the tensor alive.
py::array to_array(Tensor tensor) {
  auto* owned = new Tensor(std::move(tensor));
  const py::capsule owner(owned, [](void* pointer) { delete static_cast<Tensor*>(pointer); });
  return py::array(py::dtype(numpy_name(owned->type())), owned->shape(), owned->data(), owner);
}

// Tensors made once from arrays that are fed to many runs.
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

// A graph whose outputs Python refers to by number.
class PythonGraph {
 public:
  PythonGraph() {
    require_open();
    graph_ = std::make_shared<Graph>();
  }

  // inputs: numbers of outputs, or lists of them; attributes: name -> (kind, value). Returns number
  // and type of each output.
  std::vector<std::pair<std::int64_t, int>> add(const std::string& kind, const std::string& name,
                                                const py::list& inputs,
                                                const py::dict& attributes) {
    Failure failure;
    OperationBuilder builder(graph_->get(), kind.c_str(), name.c_str());
    for (const py::handle input : inputs) {
      if (py::isinstance<py::list>(input)) {
        builder.add_inputs(outputs(input.cast<std::vector<std::int64_t>>()));
      } else {
        builder.add_input(output(input.cast<std::int64_t>()));
      }
    }
    for (const auto& [key, value] : attributes) {
      const auto pair = value.cast<py::tuple>();
      set(&builder, key.cast<std::string>(), pair[0].cast<std::string>(), pair[1], &failure);
      check(failure);
    }
    TF_Operation* operation = builder.finish(&failure);
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
    std::vector<Output> outputs;
    outputs.reserve(numbers.size());
    for (const std::int64_t number : numbers) {
      outputs.push_back(output(number));
    }
    return outputs;
  }

  const std::shared_ptr<Graph>& graph() const noexcept { return graph_; }

 private:
  static void set(OperationBuilder* builder, const std::string& name, const std::string& kind,
                  const py::object& value, Failure* failure) {
    const char* key = name.c_str();
    if (kind == "type") {
      builder->set_type(key, static_cast<DataType>(value.cast<int>()));
    } else if (kind == "int") {
      builder->set_int(key, value.cast<std::int64_t>());
    } else if (kind == "ints") {
      builder->set_ints(key, value.cast<std::vector<std::int64_t>>());
    } else if (kind == "float") {
      builder->set_float(key, value.cast<float>());
    } else if (kind == "bool") {
      builder->set_bool(key, value.cast<bool>());
    } else if (kind == "string") {
      builder->set_string(key, value.cast<std::string>());
    } else if (kind == "strings") {
      builder->set_strings(key, value.cast<std::vector<std::string>>());
    } else if (kind == "shape") {
      builder->set_shape(key, value.cast<std::vector<std::int64_t>>());
    } else if (kind == "tensor") {
      builder->set_tensor(key, to_tensor(value.cast<py::array>()), failure);
    } else {
      throw py::value_error("unknown kind of attribute: " + kind);
    }
  }

  std::shared_ptr<Graph> graph_;
  std::vector<Output> outputs_;
};

// Creates a session. Its destructor waits for threads that may be waiting for the GIL.
std::shared_ptr<Session> new_session(const PythonGraph& graph, const std::string& config) {
  Failure failure;
  std::unique_ptr<Session> session;
  {
    const WithoutGil released;
    session = std::make_unique<Session>(graph.graph(), config, &failure);
  }
  check(failure);
  return {session.release(), [](Session* pointer) {
            const WithoutGil released;
            delete pointer;
          }};
}

// The inputs and outputs of a session's runs, looked up once.
class Call {
 public:
  Call(std::shared_ptr<Session> session, const PythonGraph& graph,
       const std::vector<std::int64_t>& inputs, const std::vector<std::int64_t>& outputs)
      : session_(std::move(session)),
        inputs_(graph.outputs(inputs)),
        outputs_(graph.outputs(outputs)) {}

  // Feeds `arrays` to the first inputs and `constants` to the others.
  std::vector<py::array> run(const std::vector<py::array>& arrays, const Tensors* constants) const {
    std::vector<Tensor> tensors;
    tensors.reserve(arrays.size());
    for (const py::array& array : arrays) {
      tensors.push_back(to_tensor(array));
    }
    std::vector<TF_Tensor*> values;
    values.reserve(inputs_.size());
    for (const Tensor& tensor : tensors) {
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
    std::vector<Tensor> results;
    {
      const WithoutGil released;
      results = session_->run(inputs_, values, outputs_, &failure);
    }
    check(failure);
    std::vector<py::array> result_arrays;
    result_arrays.reserve(results.size());
    for (Tensor& tensor : results) {
      result_arrays.push_back(to_array(std::move(tensor)));
    }
    return result_arrays;
  }

 private:
  std::shared_ptr<Session> session_;
  std::vector<Output> inputs_;
  std::vector<Output> outputs_;
};

void open(const std::string& framework, const std::string& cc) {
  std::string error;
  bool opened = false;
  {
    const WithoutGil released;
    opened = open_tensorflow(framework, cc, &error);
  }
  if (!opened) {
    throw py::import_error(error);
  }
}

}  // namespace
}  // namespace yolotf

PYBIND11_MODULE(_runtime, module) {
  using namespace pybind11::literals;
  module.doc() = "TensorFlow's kernels through its C API, without TensorFlow's Python.";
  yolotf::WithoutGil::register_exit_handler();
  module.def("set_exception_factory", &yolotf::set_exception_factory, "factory"_a,
             "Registers factory(message, code), which returns the exception for an error of "
             "TensorFlow; `code` is a name like INVALID_ARGUMENT.");
  module.def("set_wait_at_end", &yolotf::WithoutGil::set_exit_timeout, "seconds"_a,
             "Sets how long Python's exit waits for networks that run in daemon threads.");
  module.def("begin_work", &yolotf::WithoutGil::begin_work,
             "Counts work of another native library as in progress: Python's exit waits for it. "
             "Does not return once Python is exiting.");
  module.def("end_work", &yolotf::WithoutGil::end_work, "Ends what begin_work() began.");
  module.def(
      "open", &yolotf::open, "framework"_a, "cc"_a,
      "Opens the two libraries of a TensorFlow, by their paths. Raises ImportError if one is "
      "missing or lacks a function.");
  module.def("version", &yolotf::tensorflow_version,
             "Returns TensorFlow's version; empty before open().");
  module.def("onednn_enabled", &yolotf::onednn_enabled,
             "Whether TensorFlow uses oneDNN on this processor.");
  py::class_<yolotf::Tensors>(module, "Tensors",
                              "Tensors made once from arrays that are fed to many runs.")
      .def(py::init<const std::vector<py::array>&>(), "arrays"_a);
  py::class_<yolotf::PythonGraph>(module, "Graph",
                                  "A graph. Operations can be added, but not removed.")
      .def(py::init<>())
      .def("add", &yolotf::PythonGraph::add, "kind"_a, "name"_a, "inputs"_a, "attributes"_a,
           "Adds an operation. `inputs` are numbers of outputs, or lists of them; `attributes` "
           "are name -> (kind, value). Returns (number, data type) of each output.");
  py::class_<yolotf::Session, std::shared_ptr<yolotf::Session>>(
      module, "Session", "Runs a graph, with threads of its own.")
      .def(py::init(&yolotf::new_session), "graph"_a, "config"_a);
  py::class_<yolotf::Call>(module, "Call", "The inputs and outputs of a session's runs.")
      .def(py::init<std::shared_ptr<yolotf::Session>, const yolotf::PythonGraph&,
                    const std::vector<std::int64_t>&, const std::vector<std::int64_t>&>(),
           "session"_a, "graph"_a, "inputs"_a, "outputs"_a)
      .def("run", &yolotf::Call::run, "arrays"_a, "constants"_a = nullptr,
           "Feeds `arrays` to the first inputs and `constants` to the others. Returns an array for "
           "each output. Can be called from any thread.");
}
