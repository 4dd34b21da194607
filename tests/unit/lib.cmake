# The public headers: the same tests as others have, and once more as programs may be built. Headers are
# compiled by their users, whose compiler and options are not ours.
set(lib_sources lib/portable_test.cc lib/threads_test.cc lib/messages_test.cc lib/events_test.cc)
ppdsm_unit_test(lib_test ${lib_sources} LIBS ppdsm_headers)

find_program(PPDSM_GXX NAMES g++)
find_program(PPDSM_CLANGXX NAMES clang++-19 clang++)
set(lib_includes -I${PROJECT_SOURCE_DIR}/runtime/lib/include -I${PROJECT_BINARY_DIR}/runtime/lib/include)

# ppdsm_lib_variant(NAME COMPILER options...): lib_test built by COMPILER; nothing where that, or what the options link
# to (a sanitizer's runtime), is not installed.
function(ppdsm_lib_variant name compiler)
  if(NOT ${compiler})
    message(STATUS "${name} is left out: its compiler is not installed")
    return()
  endif()
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/${name}.probe)
  file(WRITE ${probe}.cc "int main() {}\n")
  execute_process(COMMAND ${${compiler}} ${ARGN} ${probe}.cc -o ${probe}
                  RESULT_VARIABLE missing OUTPUT_QUIET ERROR_QUIET)
  if(missing)
    message(WARNING "${name} is left out: ${${compiler}} cannot link a program with ${ARGN}; ci/setup.sh "
                    "installs what that needs")
    return()
  endif()
  set(objects)
  foreach(source ${lib_sources})
    cmake_path(GET source STEM stem)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.dir/${stem}.o)
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/${name}.dir
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${${compiler}} ${ARGN} ${lib_includes}
              -Wall -Wextra -Wshadow -Werror -Wno-unknown-warning-option -Wno-c++20-designator
              -Wno-unused-command-line-argument
              -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${source}
      DEPFILE ${object}.d
      VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(program ${CMAKE_CURRENT_BINARY_DIR}/${name})
  add_custom_command(
    OUTPUT ${program}
    COMMAND ${${compiler}} ${ARGN} ${objects} -lgtest -lgtest_main -o ${program}
    DEPENDS ${objects}
    VERBATIM)
  add_custom_target(${name}_program ALL DEPENDS ${program})
  # A gibibyte under a sanitizer shows nothing new and takes long.
  add_test(NAME Lib.${name} COMMAND ${program} --gtest_brief=1 --gtest_filter=-LargeMessages.*)
  set_tests_properties(Lib.${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

if(NOT PPDSM_SANITIZE)
  ppdsm_lib_variant(lib_test_tsan PPDSM_GXX -std=c++17 -O1 -g -fsanitize=thread)
  ppdsm_lib_variant(lib_test_asan PPDSM_CLANGXX -std=c++20 -O1 -g -fPIE -pie
                    -fsanitize=address,undefined -fno-sanitize-recover=all)
  ppdsm_lib_variant(lib_test_clang PPDSM_CLANGXX -std=c++17 -O2 -fno-pie -no-pie)
endif()

foreach(compiler PPDSM_GXX PPDSM_CLANGXX)
  if(${compiler})
    cmake_path(GET ${compiler} FILENAME compiler_name)
    add_test(NAME Lib.RefusesToCompile.${compiler_name}
      COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/lib/programs/check_refused.sh ${${compiler}} ${lib_includes})
    add_test(NAME Lib.BuildsRun.${compiler_name}
      COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/lib/programs/check_builds.sh ${${compiler}}
              ${PROJECT_SOURCE_DIR}/docs/programming.md ${lib_includes})
    set_tests_properties(Lib.RefusesToCompile.${compiler_name} Lib.BuildsRun.${compiler_name}
      PROPERTIES LABELS unit TIMEOUT 300)
  endif()
endforeach()
