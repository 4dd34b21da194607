ppdsm_unit_test(ring_test
  core/rings/ring_test.cc core/rings/ring_harm_test.cc core/rings/ring_processes_test.cc
  LIBS ppdsm_rings)
