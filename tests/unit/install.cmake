add_test(NAME Install.ConsumersFindThePackage
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install/check.sh
          ${CMAKE_BINARY_DIR} ${PROJECT_VERSION} ${CMAKE_CXX_COMPILER})
set_tests_properties(Install.ConsumersFindThePackage PROPERTIES LABELS unit TIMEOUT 120)
