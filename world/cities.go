package world

import "github.com/wedge-cloud/wedge"

// Fifty are PoPs in fifty cities, for worlds as large as real edge clouds.
var Fifty = []wedge.PoP{
	at("ams", "Amsterdam", 52.4, 4.9), at("lhr", "London", 51.5, -0.1), at("cdg", "Paris", 48.9, 2.4), at("mad", "Madrid", 40.4, -3.7),
	at("lis", "Lisbon", 38.7, -9.1), at("dub", "Dublin", 53.3, -6.3), at("mxp", "Milan", 45.5, 9.2), at("fco", "Rome", 41.9, 12.5),
	at("vie", "Vienna", 48.2, 16.4), at("prg", "Prague", 50.1, 14.4), at("waw", "Warsaw", 52.2, 21), at("arn", "Stockholm", 59.3, 18.1),
	at("osl", "Oslo", 59.9, 10.8), at("cph", "Copenhagen", 55.7, 12.6), at("hel", "Helsinki", 60.2, 24.9), at("ath", "Athens", 38, 23.7),
	at("otp", "Bucharest", 44.4, 26.1), at("ist", "Istanbul", 41, 29), at("tlv", "Tel Aviv", 32.1, 34.8), at("cai", "Cairo", 30, 31.2),
	at("los", "Lagos", 6.5, 3.4), at("nbo", "Nairobi", -1.3, 36.8), at("jnb", "Johannesburg", -26.2, 28), at("cpt", "Cape Town", -33.9, 18.4),
	at("dxb", "Dubai", 25.2, 55.3), at("bom", "Mumbai", 19.1, 72.9), at("del", "Delhi", 28.6, 77.2), at("maa", "Chennai", 13.1, 80.3),
	at("sin", "Singapore", 1.4, 103.8), at("bkk", "Bangkok", 13.8, 100.5), at("cgk", "Jakarta", -6.2, 106.8), at("mnl", "Manila", 14.6, 121),
	at("hkg", "Hong Kong", 22.3, 114.2), at("tpe", "Taipei", 25, 121.6), at("icn", "Seoul", 37.6, 127), at("nrt", "Tokyo", 35.7, 139.7),
	at("kix", "Osaka", 34.7, 135.5), at("syd", "Sydney", -33.9, 151.2), at("mel", "Melbourne", -37.8, 145), at("akl", "Auckland", -36.8, 174.8),
	at("nyc", "New York", 40.7, -74), at("iad", "Washington", 38.9, -77), at("yyz", "Toronto", 43.7, -79.4), at("ord", "Chicago", 41.9, -87.6),
	at("dfw", "Dallas", 32.8, -96.8), at("sea", "Seattle", 47.6, -122.3), at("lax", "Los Angeles", 34.1, -118.2), at("gru", "Sao Paulo", -23.5, -46.6),
	at("eze", "Buenos Aires", -34.6, -58.4), at("scl", "Santiago", -33.4, -70.7),
}

func at(name, city string, lat, lon float64) wedge.PoP {
	return wedge.PoP{Name: name, City: city, Lat: lat, Lon: lon, Tier: wedge.TierMetro, Provider: "world"}
}
