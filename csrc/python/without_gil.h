// Releases the GIL for native work, safely even if the interpreter exits meanwhile.
//
// Daemon threads keep running while a program exits. CPython ends those that request the GIL by
// unwinding their stacks, which makes C++ abort the process; and static objects are destroyed while
// threads still use them. Therefore the exit waits for native work in progress and lets no new work
// start. Work that takes too long is abandoned: its thread never returns to Python, and the process
// ends with its exit code, but without running destructors.
#ifndef YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_
#define YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace yolotf {

// Releases the GIL during its lifetime.
class WithoutGil {
 public:
  WithoutGil() {
    if (exiting_ && PyThread_get_thread_ident() != exiting_thread_) {
      PyEval_SaveThread();
      block_forever();
    }
    ++in_progress_;
    state_ = PyEval_SaveThread();
  }
  ~WithoutGil() {
    if (abandoned_ && PyThread_get_thread_ident() != exiting_thread_) {
      block_forever();
    }
    PyEval_RestoreThread(state_);
    --in_progress_;
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // Must be called once by each module that uses this class.
  static void register_exit_handler() {
    pthread_atfork(nullptr, nullptr, [] { in_progress_ = 0; });  // a child has no other threads
    pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function(&wait_at_exit));
  }

  // How long the interpreter's exit waits for native work, which may hang on a file.
  static void set_exit_timeout(double seconds) { exit_timeout_ = seconds; }

 private:
  static void wait_at_exit() {
    constexpr int kStepsPerSecond = 1000;
    exiting_ = true;
    exiting_thread_ = PyThread_get_thread_ident();
    for (int i = 0; i < exit_timeout_ * kStepsPerSecond && in_progress_ > 0; ++i) {
      PyThreadState* state = PyEval_SaveThread();
      usleep(1000000 / kStepsPerSecond);
      PyEval_RestoreThread(state);
    }
    if (in_progress_ > 0 && !abandoned_.exchange(true)) {
#ifdef __GLIBC__
      // Runs before the destructors of TensorFlow and others, whose objects are still in use.
      on_exit(
          [](int code, void*) {
            std::fflush(nullptr);
            _exit(code);
          },
          nullptr);
#endif
    }
  }

  // What Python 3.14 does with threads that request the GIL during exit.
  [[noreturn]] static void block_forever() {
    while (true) {
      pause();
    }
  }

  // Accessed only with the GIL.
  inline static bool exiting_ = false;
  inline static unsigned long exiting_thread_ = 0;
  inline static int in_progress_ = 0;
  inline static double exit_timeout_ = 10;
  // Whether the exit has stopped waiting. Read without the GIL.
  inline static std::atomic<bool> abandoned_ = false;

  PyThreadState* state_ = nullptr;
};

}  // namespace yolotf

#endif  // YOLOTF_CSRC_PYTHON_WITHOUT_GIL_H_
