# Lets CMake find and use the ROS 2 of PyPI wheels: cmake -DCMAKE_PROJECT_INCLUDE=<this file>, as setup.py does.
#
# 1. The wheels keep lib/, share/ and include/ in the prefix of the Python that builds: a virtual environment, or the
#    overlay that pip makes for one build.
# 2. Their targets name include directories of the machine where they were built (/opt/python/cpXY-cpXY/...). CMake
#    refuses an imported target with an include directory that does not exist, so those are dropped at the end of the
#    directory, when all targets are known.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c
    "import ament_index_python as a, pathlib; print(pathlib.Path(a.__file__).resolve().parents[4])"
  OUTPUT_VARIABLE ros_wheels_prefix OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(PREPEND CMAKE_PREFIX_PATH "${ros_wheels_prefix}")
set(ENV{AMENT_PREFIX_PATH} "${ros_wheels_prefix}")

function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      set(present "")
      foreach(directory IN LISTS directories)
        if(NOT IS_ABSOLUTE "${directory}" OR EXISTS "${directory}")
          list(APPEND present "${directory}")
        endif()
      endforeach()
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL drop_missing_include_directories)
