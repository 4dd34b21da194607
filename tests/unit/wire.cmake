ppdsm_unit_test(wire_test wire/codec_test.cc wire/frame_test.cc LIBS ppdsm_wire)
ppdsm_unit_test(link_test io/link_test.cc LIBS ppdsm_io)
