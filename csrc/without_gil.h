// Native work without Python's lock (the GIL), also where Python ends meanwhile.
//
// When a program ends, its daemon threads are where they are. CPython ends those that ask for the
// GIL by unwinding them, over which C++ aborts the process; and what they still compute with is
// destroyed under them. So Python's end waits for the work that is going on, and none begins behind
// it.
#ifndef YOLOTF_CSRC_WITHOUT_GIL_H_
#define YOLOTF_CSRC_WITHOUT_GIL_H_

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

namespace yolotf {

// Lets go of the GIL while it lives.
class WithoutGil {
 public:
  WithoutGil() {
    if (ended_ && PyThread_get_thread_ident() != ender_) {
      PyEval_SaveThread();
      while (true) {  // as from Python 3.14 on: the thread stays where it is
        pause();
      }
    }
    ++count_;
    state_ = PyEval_SaveThread();
  }
  ~WithoutGil() {
    PyEval_RestoreThread(state_);
    --count_;
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // To be called once by a module that uses it.
  static void prepare() {
    pthread_atfork(nullptr, nullptr, [] { count_ = 0; });  // the others are not here
    pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&end));
  }

 private:
  static void end() {
    constexpr int kSeconds = 10;  // then work may hang in a file, and the program ends anyway
    constexpr int kSteps = 1000;  // in a second
    ended_ = true;
    ender_ = PyThread_get_thread_ident();
    for (int i = 0; i < kSeconds * kSteps && count_ > 0; ++i) {
      PyThreadState* state = PyEval_SaveThread();
      usleep(1000000 / kSteps);
      PyEval_RestoreThread(state);
    }
  }

  // Read and changed with the GIL.
  inline static bool ended_ = false;
  inline static unsigned long ender_ = 0;
  inline static int count_ = 0;

  PyThreadState* state_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WITHOUT_GIL_H_
