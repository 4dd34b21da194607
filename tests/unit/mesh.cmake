ppdsm_unit_test(trust_test mesh/trust_test.cc LIBS ppdsm_mesh)
