// Native work without Python's lock (the GIL), also where Python ends meanwhile.
//
// When a program ends, its daemon threads are where they are. CPython ends those that ask for the
// GIL by unwinding them, over which C++ aborts the process; and what they still compute with is
// destroyed under them. So Python's end waits for the work that is going on, and none begins behind
// it. Work that takes too long is left to itself: its thread never comes back to Python, and the
// process ends with its code without destroying anything.
#ifndef YOLOTF_CSRC_WITHOUT_GIL_H_
#define YOLOTF_CSRC_WITHOUT_GIL_H_

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace yolotf {

// Lets go of the GIL while it lives.
class WithoutGil {
 public:
  WithoutGil() {
    if (ended_ && PyThread_get_thread_ident() != ender_) {
      PyEval_SaveThread();
      stay();
    }
    ++count_;
    state_ = PyEval_SaveThread();
  }
  ~WithoutGil() {
    if (left_ && PyThread_get_thread_ident() != ender_) {
      stay();
    }
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

  // Seconds that Python's end waits for; then work may hang in a file.
  static void set_wait(double seconds) { wait_ = seconds; }

 private:
  static void end() {
    constexpr int kSteps = 1000;  // in a second
    ended_ = true;
    ender_ = PyThread_get_thread_ident();
    for (int i = 0; i < wait_ * kSteps && count_ > 0; ++i) {
      PyThreadState* state = PyEval_SaveThread();
      usleep(1000000 / kSteps);
      PyEval_RestoreThread(state);
    }
    if (count_ > 0 && !left_.exchange(true)) {
#ifdef __GLIBC__
      // Before the destructors of TensorFlow and others, with which the work goes on.
      on_exit(
          [](int code, void*) {
            std::fflush(nullptr);
            _exit(code);
          },
          nullptr);
#endif
    }
  }

  // As from Python 3.14 on: the thread stays where it is.
  [[noreturn]] static void stay() {
    while (true) {
      pause();
    }
  }

  // Read and changed with the GIL.
  inline static bool ended_ = false;
  inline static unsigned long ender_ = 0;
  inline static int count_ = 0;
  inline static double wait_ = 10;
  // Whether Python has ended without waiting any longer; read without the GIL.
  inline static std::atomic<bool> left_ = false;

  PyThreadState* state_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WITHOUT_GIL_H_
