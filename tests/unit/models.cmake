# The protocols' models, each checked exhaustively at a small size, and once with each of the mutations that its first
# comment lists: a check that a mutation passes checks nothing.
if(PPDSM_SANITIZE)  # The models hold nothing of ours that a sanitizer could look at.
  return()
endif()
find_program(PPDSM_SPIN spin)
if(NOT PPDSM_SPIN)
  message(WARNING "The models are not checked: spin is not installed; ci/setup.sh installs it")
  return()
endif()
file(GLOB models CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/dsm/models/*.pml)
foreach(model ${models})
  cmake_path(GET model STEM name)
  # Its mutations are found again when it changes.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${model})
  file(STRINGS ${model} lines REGEX "^ \\*   -DMUTATE_")
  list(TRANSFORM lines REPLACE "^ \\*   -D(MUTATE_[A-Z_]+).*" "\\1")
  foreach(mutation "" ${lines})
    string(REPLACE "MUTATE_" "." suffix "${mutation}")
    add_test(NAME Model.${name}${suffix}
      COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/models/check_model.sh
              ${PPDSM_SPIN} ${CMAKE_C_COMPILER} ${model} ${mutation})
    set_tests_properties(Model.${name}${suffix} PROPERTIES LABELS unit TIMEOUT 120)
  endforeach()
endforeach()
