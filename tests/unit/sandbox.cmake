ppdsm_unit_test(sandbox_test sandbox/refusal_log_test.cc sandbox/root_view_test.cc
  LIBS ppdsm_sandbox)
ppdsm_unit_test(refusal_report_test sandbox/refusal_report_test.cc
  ${CMAKE_SOURCE_DIR}/cli/refusal_report.cc LIBS ppdsm_peer fmt::fmt)
