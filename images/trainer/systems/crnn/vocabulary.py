"""What sample data spells: everyday English words, and names that give every capital letter its turn."""

from __future__ import annotations

_WORDS = """
about above across after again against air all almost along already also although always among and animal
another answer any apple are area around arrive ask autumn away baby back bag ball bank basket be beach bear
beautiful because become bed before begin behind believe below beside best better between bicycle big bird
birthday black blue boat body book both bottle box boy bread break breakfast bridge bright bring brother brown
build business but butter buy by cake call came camera can candle car card careful carry cat catch centre
century chair chance change cheese child choose church circle city class clean clear climb clock close cloud
coat coffee cold colour come common complete cook cool copper corner cost could country course cover cow cross
crowd cup cut dance dark daughter day deep did different dinner do doctor dog door double down dozen draw
dream dress drink drive dry during each early earth east easy eat edge effort egg eight either eleven empty
end engine enjoy enough equal even evening ever every example exercise expect explain extra eye face fact fall
family far farm fast father feather feel few field fifteen fill final find fine finger finish fire first fish
five flat floor flower fly follow food foot for forest forget forward four fox free fresh friend from front
fruit full funny garden gate gave gentle get gift girl give glad glass go gold good got government grass great
green grey ground group grow guess guide had hair half hall hand happen happy harbour hard has hat have he
head hear heart heavy help her here high hill him his history hold hole holiday home honest hope horse hot
hotel hour house how hundred hurry ice idea if important in inside instead interest iron is island it its
jacket jam jar join journey joy judge juice jump just keep kettle key kind king kitchen kite knee knew knife
knock know lady lake lamp land language large last late laugh law lazy lead leaf learn least leave left lemon
less let letter level library life lift light like line lion list listen little live long look lose loud love
low lucky lunch machine made make man many map mark market matter may me meadow mean measure meat meet member
middle might milk mind minute mirror miss money month moon more morning most mother mountain mouse move much
music must my name narrow near neck need never new news next nice night nine no noise none north nose not note
nothing notice now number oak object ocean of off offer office often oil old on once one only onion open
opinion or orange order other our out outside over own page paint pair paper parcel parent park part pass past
path pay peace pencil people pepper perhaps person photograph piano picture piece place plain plan plant plate
play please pocket poem point poor possible post potato power present pretty price problem promise proud
public pull purple push put puzzle quarter queen question quick quiet quite rabbit radio railway rain raise
ran reach read ready reason receive red remember repair reply report rest rice rich ride right ring rise river
road rock roof room rose round rule run sad safe sail salt same sand save saw say school science sea season
seat second secret see seem sell send sentence serious seven several shade shadow shall shape share sharp she
sheep shelf shine ship shirt shoe shop short should shoulder show shut sick side silver simple since sing
sister sit six size skin sky sleep slow small smell smile smoke snow so soap soft soldier some son song soon
sorry sound soup south space speak special spoon spring square stage stairs stand star start state station
stay steam still stone stood stop store storm story strange street strong student study such sudden sugar
summer sun supper sure surprise sweet swim table tail take talk tall taste teach tell temper ten than thank
that the their them then there these they thick thin thing think third this those though thousand three
through throw ticket tie tiger time tired to today together told tomorrow tongue too tooth top touch toward
town trade train travel tree trouble true trust try tunnel turn twelve twenty two uncle under until up upon
use usual valley value velvet very view village violin visit voice voyage wait walk wall want warm was wash
watch water wave way we weather week weight welcome well went were west wet what wheat wheel when where which
while whisper white who whole why wide wife wild will wind window wine winter wise wish with within without
woman wonder wood wool word work world worry would write wrong yard year yellow yes yesterday yet you young
your zebra zero zoo
"""

_NAMES = """
Alice Anna Arthur Berlin Boston Bruno Cairo Carla Charles Daniel Delhi Dora Edith Egypt Elena Felix Fiona
Florence George Geneva Greta Hanna Harry Hugo India Irene Isaac Jacob Jane Japan Karl Kate Kenya Laura Leo
London Maria Martin Mexico Naples Nina Norway Olga Oscar Oxford Paris Paul Peru Quebec Quentin Quinn Rita
Robert Rome Sarah Simon Spain Thomas Tokyo Turin Ulrich Uma Utrecht Venice Vera Victor Walter Warsaw Wendy
Xanthe Xavier Xenia Yale Yemen York Yvonne Zagreb Zoe Zurich
"""

WORDS = tuple(_WORDS.split())
NAMES = tuple(_NAMES.split())
